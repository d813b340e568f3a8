"""Single changes of a network that reduce its parameters, for any family."""

from collections.abc import Iterator
from typing import Any

from clapp.config import ModelConfig, model_config
from clapp.errors import ConfigError
from clapp.models.costs import cost
from clapp.models.families import family_of
from clapp.models.family import Change


def one_less(config: ModelConfig) -> Iterator[Change]:
    """Yield every possible reduction of one whole number in a configuration by one."""
    values = config.model_dump()
    for key, value in values.items():
        if key.endswith("_channels") or isinstance(value, bool) or not isinstance(value, int):
            continue
        try:
            model_config(values | {key: value - 1})
        except ConfigError:
            continue
        yield f"{key} {value - 1}", {key: value - 1}


def smaller(model: ModelConfig) -> list[tuple[str, dict[str, Any]]]:
    """Every single change that reduces the parameters, in words and as keys; smallest network
    first."""
    changes = family_of(model).changes or one_less
    before, seen = cost(model).params, {model.canonical()}
    found = []
    for number, (words, values) in enumerate(changes(model)):
        try:
            child = model_config(model.model_dump() | values)
        except ConfigError:
            continue
        after, key = cost(child), child.canonical()
        if after.params < before and key not in seen:
            seen.add(key)
            found.append((after, number, words, values))
    return [(words, values) for _, _, words, values in sorted(found, key=lambda entry: entry[:2])]
