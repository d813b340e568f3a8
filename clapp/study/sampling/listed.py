"""The networks that are one change of a fixed list away from a trial's.

On the list is what makes a network smaller or larger, and every other border: a network of the
right form with the wrong border is no better than many others.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from clapp.config import Layer, compose, flatten, identity, nest
from clapp.front.record import record_of
from clapp.models.neighbours import neighbours

BORDER = "model.padding"
"""The key that changes what a network sees beyond the picture, and no weight."""


class Listed(NamedTuple):
    """A configuration that is one change away.

    Attributes:
        params: weights of its network.
        words: name of the change.
        change: the dotted keys that change.
        key: what tells the configuration from all others.
    """

    params: int
    words: str
    change: Mapping[str, Any]
    key: str


class Listing(NamedTuple):
    """All dotted keys of a trial's configuration, and all configurations one change away."""

    values: Mapping[str, Any]
    entries: list[Listed]


def listing(parent: FrozenTrial) -> Listing:
    """Every configuration that is one change away from that of a trained trial."""
    from clapp.study.storage.heritage import configuration  # loads torch

    record = record_of(parent)
    config = configuration(record)
    values = flatten(config.model_dump())
    changes: list[tuple[int, str, dict[str, Any]]] = [
        (params, words, {f"model.{key}": value for key, value in change.items()})
        for params, (words, change) in neighbours(config.model)
    ]
    borders = parent.distributions.get(BORDER)
    if isinstance(borders, CategoricalDistribution):
        changes += [
            (record.params or 0, f"border: {choice}", {BORDER: choice})
            for choice in borders.choices
            if choice != parent.params[BORDER]
        ]
    entries = [
        Listed(params, words, change, identity(compose([Layer(words, nest({**values, **change}))])))
        for params, words, change in changes
    ]
    return Listing(values, entries)
