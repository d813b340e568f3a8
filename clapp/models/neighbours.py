"""Single changes of a network, for any family."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from clapp.config import ModelConfig, model_config
from clapp.errors import ConfigError
from clapp.models.costs import cost
from clapp.models.families import family_of
from clapp.models.family import Change


class Neighbour(NamedTuple):
    """A network that is one change away from another.

    Attributes:
        params: its parameters.
        words: name of the change.
        change: the keys that change, with their values.
        model: its configuration.
    """

    params: int
    words: str
    change: dict[str, Any]
    model: ModelConfig


def one_step(config: ModelConfig) -> Iterator[Change]:
    """Yield every possible change of one whole number in a configuration by one."""
    values = config.model_dump()
    for key, value in values.items():
        if key.endswith("_channels") or isinstance(value, bool) or not isinstance(value, int):
            continue
        for other in (value - 1, value + 1):
            yield f"{key} {other}", {key: other}


def neighbours(model: ModelConfig) -> list[Neighbour]:
    """Every other network that is one change away; smallest network first."""
    changes = family_of(model).changes or one_step
    values, seen = model.model_dump(), {model.canonical()}
    found = []
    for words, change in changes(model):
        try:
            other = model_config(values | change)
        except ConfigError:
            continue
        key = other.canonical()
        if key not in seen:
            seen.add(key)
            costs = cost(other)
            found.append((costs, Neighbour(costs.params, words, change, other)))
    found.sort(key=lambda entry: entry[0])
    return [neighbour for _, neighbour in found]


def smaller(model: ModelConfig) -> list[Change]:
    """Every single change that reduces the parameters; smallest network first."""
    before = cost(model).params
    return [(one.words, one.change) for one in neighbours(model) if one.params < before]
