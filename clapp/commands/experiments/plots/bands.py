"""What the plots of experiments show, as numbers: curves with bands, and distributions."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clapp.commands.experiments.runs import Outcome
from clapp.front.objectives import positive
from clapp.system.intervals import log_intervals

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#6B6B6B")
"""Told apart with any colour vision (Okabe and Ito, 2008), and two more."""
KINDS = {"train_loss": "training", "l2": "validation"}
"""What a curve holds of every validation, and what to call it."""


class Band(NamedTuple):
    """A curve over iterations: the mean over seeds and the ends of its 95 % interval."""

    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


class Distribution(NamedTuple):
    """Values of several trainings under a name."""

    name: str
    values: list[float]


def curve_of(outcome: Outcome, key: str) -> tuple[list[int], list[float]]:
    """Steps and values of one training, as far as they are finite; above zero."""
    points = [
        (int(point["step"]), positive(float(point[key])))
        for point in outcome.curve
        if point[key] is not None and math.isfinite(point[key])
    ]
    return [step for step, _ in points], [value for _, value in points]


def band_of(outcomes: Sequence[Outcome], key: str) -> Band | None:
    """The mean of curves and its interval; None: none of them has a finite value.

    A training that ended earlier than others keeps its last value: that is what it came to.
    """
    curves = [curve for one in outcomes if (curve := curve_of(one, key))[0]]
    if not curves:
        return None
    first = max(steps[0] for steps, _ in curves)
    steps = sorted({step for found, _ in curves for step in found if step >= first})
    rows = [
        [values[int(np.searchsorted(found, step, side="right")) - 1] for step in steps]
        for found, values in curves
    ]
    intervals = log_intervals(rows)
    if len(rows) == 1:
        return Band(steps, rows[0], rows[0], rows[0])
    return Band(
        steps,
        [one.mean for one in intervals],
        [one.low for one in intervals],
        [one.high for one in intervals],
    )


def losses_of(name: str, outcomes: Sequence[Outcome]) -> Distribution:
    """The final losses of the trainings that did not diverge."""
    return Distribution(name, [positive(one.loss) for one in outcomes if one.loss is not None])


def seconds_of(name: str, outcomes: Sequence[Outcome]) -> Distribution:
    """The seconds of the trainings."""
    return Distribution(name, [max(one.seconds, 1e-3) for one in outcomes])
