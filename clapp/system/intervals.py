"""Means with confidence intervals, of numbers above zero that spread by factors.

Losses of repeated trainings are skewed: one seed of ten may end at ten times the loss of the rest.
So the mean is that of the logarithms (the geometric mean; of losses, the mean in decibels), with
Student's t for its interval. `tests/test_intervals.py` measures how often such intervals cover,
beside others; docs/experiments.md has the table.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and its interval; with fewer than two numbers it reaches from 0 to infinity.

    Attributes:
        size: of how many numbers.
    """

    mean: float
    low: float
    high: float
    size: int


def log_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The geometric mean of numbers above zero, (n,) with n > 0, and its interval."""
    logs = np.log(np.asarray(values, float))
    mean = float(logs.mean())
    if len(logs) < 2:
        return Interval(float(np.exp(mean)), 0.0, float("inf"), len(logs))
    half = _half_width(logs, confidence)
    low, high = (float(np.exp(mean + sign * half)) for sign in (-1, 1))
    return Interval(float(np.exp(mean)), low, high, len(logs))


def log_intervals(curves: ArrayLike, confidence: float = CONFIDENCE) -> list[Interval]:
    """`log_interval` of each column of curves (n, m)."""
    return [log_interval(column, confidence) for column in np.asarray(curves, float).T]


def paired_ratio(
    over: Sequence[float], under: Sequence[float], confidence: float = CONFIDENCE
) -> Interval:
    """The geometric mean of `over[i] / under[i]`, all above zero, and its interval."""
    return log_interval(np.asarray(over, float) / np.asarray(under, float), confidence)


def draws_of_mean(
    values: ArrayLike, number: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draws (number,) of where the true mean of the logarithms lies, given (n,) values, n > 1.

    Student's t around the mean: the posterior of a normal mean without prior knowledge.
    """
    logs = np.log(np.asarray(values, float))
    error = logs.std(ddof=1) / len(logs) ** 0.5
    drawn: NDArray[np.float64] = random.standard_t(len(logs) - 1, number)
    return float(logs.mean()) + float(error) * drawn


def _half_width(values: NDArray[np.float64], confidence: float) -> float:
    from scipy.stats import t  # type: ignore[import-untyped]

    error = values.std(ddof=1) / len(values) ** 0.5
    return float(t.ppf((1 + confidence) / 2, len(values) - 1) * error)


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The arithmetic mean of numbers, (n,) with n > 0, and its interval by Student's t."""
    numbers = np.asarray(values, float)
    mean = float(numbers.mean())
    half = _half_width(numbers, confidence) if len(numbers) > 1 else float("inf")
    return Interval(mean, mean - half, mean + half, len(numbers))
