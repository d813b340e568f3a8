"""The networks that are one change of a fixed list away from a trial's.

On the list is what makes a network smaller or larger, and every other border: a network of the
right form with the wrong border is no better than many others.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from clapp.config import ModelConfig, flatten, identities, model_config
from clapp.front.record import record_of
from clapp.models.neighbours import Neighbour, neighbours

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
    near = neighbours(config.model)
    borders = parent.distributions.get(BORDER)
    if isinstance(borders, CategoricalDistribution):
        near += [
            _with_border(config.model, record.params or 0, choice)
            for choice in borders.choices
            if choice != parent.params[BORDER]
        ]
    entries = [
        Listed(one.params, one.words, {f"model.{k}": v for k, v in one.change.items()}, key)
        for one, key in zip(near, identities(config, (one.model for one in near)), strict=True)
    ]
    return Listing(flatten(config.model_dump()), entries)


def _with_border(model: ModelConfig, params: int, choice: Any) -> Neighbour:
    change = {BORDER.partition(".")[2]: choice}
    return Neighbour(params, f"border: {choice}", change, model_config(model.model_dump() | change))
