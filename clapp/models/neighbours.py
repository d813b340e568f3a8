"""Single changes of a network, for any family."""

from collections.abc import Iterator

from clapp.config import ModelConfig, model_config
from clapp.errors import ConfigError
from clapp.models.costs import cost
from clapp.models.families import family_of
from clapp.models.family import Change


def one_step(config: ModelConfig) -> Iterator[Change]:
    """Yield every possible change of one whole number in a configuration by one."""
    values = config.model_dump()
    for key, value in values.items():
        if key.endswith("_channels") or isinstance(value, bool) or not isinstance(value, int):
            continue
        for other in (value - 1, value + 1):
            yield f"{key} {other}", {key: other}


def neighbours(model: ModelConfig) -> list[tuple[int, Change]]:
    """Every other network that is one change away, with its parameters; smallest network first."""
    changes = family_of(model).changes or one_step
    values, seen = model.model_dump(), {model.canonical()}
    found = []
    for number, (words, change) in enumerate(changes(model)):
        try:
            other = model_config(values | change)
        except ConfigError:
            continue
        key = other.canonical()
        if key not in seen:
            seen.add(key)
            found.append((cost(other), number, (words, change)))
    found.sort(key=lambda entry: entry[:2])
    return [(costs.params, change) for costs, _, change in found]


def smaller(model: ModelConfig) -> list[Change]:
    """Every single change that reduces the parameters; smallest network first."""
    before = cost(model).params
    return [change for params, change in neighbours(model) if params < before]
