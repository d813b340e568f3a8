"""Predict trainings from recorded ones.

Extremely randomised trees (Geurts et al., 2006) predict the logarithms of the whole curve and of
the time from the drawn keys and the exact sizes. A recorded configuration gets its own curve.
NAS-Bench-301 (Zela et al., 2022) uses surrogates of this kind.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.front.objectives import ZERO
from clapp.replay.table import Table
from clapp.study.sampling.features import Encoder

TREES = 60


class Run(NamedTuple):
    """A predicted training: steps -> validation L2, and seconds at the last step."""

    curve: dict[int, float]
    seconds: float


class Surrogate:
    """Predicts trainings of a table's study."""

    def __init__(self, table: Table, seed: int = 0) -> None:
        from sklearn.ensemble import ExtraTreesRegressor  # type: ignore[import-untyped]

        self._steps = [int(step) for step in table.steps]
        self._encode = Encoder(_columns(table))
        features = [
            self._encode(_named(config), sizes)
            for config, sizes in zip(table.configs, table.sizes, strict=True)
        ]
        # A training that diverged counts with the highest loss of all others.
        highest = table.l2[np.isfinite(table.l2)].max()
        l2 = np.where(np.isfinite(table.l2), np.maximum(table.l2, ZERO), highest)
        targets = np.log10(np.column_stack([l2, table.seconds]))
        forest = ExtraTreesRegressor(TREES, max_features=0.7, random_state=seed)
        forest.fit(np.array(features), targets)
        # For one row at a time, the forest's own `predict` spends most of its time on checks.
        self._trees = [tree.tree_ for tree in forest.estimators_]

    def __call__(self, config: Mapping[str, Any], sizes: NDArray[np.float64]) -> Run:
        """Predict the training of a configuration of these parameters and FLOPs."""
        row = self._encode(_named(config), sizes)[None]
        mean = np.mean([tree.predict(row) for tree in self._trees], axis=0).ravel()
        *curve, seconds = (10**mean).tolist()
        return Run(dict(zip(self._steps, curve, strict=True)), seconds)


def _columns(table: Table) -> dict[str, Any]:
    """The parameters of the table's search space by their names in trials."""
    space: Mapping[str, Any] = table.study["search_space"]
    blocks = [
        len(value)
        for config in table.configs
        for value in config.values()
        if isinstance(value, list)
    ]
    columns: dict[str, Any] = {}
    for key, parameter in space.items():
        if parameter.get("per_layer"):
            columns |= {f"{key}[{number}]": parameter for number in range(max(blocks, default=1))}
        else:
            columns[key] = parameter
    return columns


def _named(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keys with a value for each block as one entry a block."""
    named: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, list):
            named |= {f"{key}[{number}]": entry for number, entry in enumerate(value)}
        else:
            named[key] = value
    return named
