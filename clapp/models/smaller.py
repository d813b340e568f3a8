"""The changes of a network that leave it with fewer parameters, whatever its family."""

from typing import Any

from clapp.config import ModelConfig, model_config
from clapp.errors import ConfigError
from clapp.models.costs import cost
from clapp.models.families import family_of


def smaller(model: ModelConfig) -> list[tuple[str, dict[str, Any]]]:
    """Every single change with fewer parameters, in words and as keys; the smallest first."""
    before, seen = cost(model).params, {model.canonical()}
    found = []
    for number, (words, values) in enumerate(family_of(model).changes(model)):
        try:
            child = model_config(model.model_dump() | values)
        except ConfigError:
            continue
        after, key = cost(child), child.canonical()
        if after.params < before and key not in seen:
            seen.add(key)
            found.append((after, number, words, values))
    return [(words, values) for _, _, words, values in sorted(found, key=lambda entry: entry[:2])]
