"""Means with confidence intervals, of numbers above zero that spread by factors.

Losses of repeated trainings are skewed: one seed of ten may end at ten times the loss of the rest.
So the mean is that of the logarithms (the geometric mean; of losses, the mean in decibels). What
skewness is left in the logarithms is corrected for (Hall 1992, "On the removal of skewness by
transformation"), and each end of an interval is the farther one of Student's t and of the
corrected t. `tests/test_intervals.py` measures how often that covers, beside other intervals;
docs/experiments.md has the table.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
_LITTLE = 1e-6  # skewness below which there is nothing to correct
Values = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean and its interval; of a single number it reaches from 0 to infinity.

    Attributes:
        size: of how many numbers.
    """

    mean: float
    low: float
    high: float
    size: int


def log_interval(
    values: ArrayLike, confidence: float = CONFIDENCE, *, skewed: bool = True
) -> Interval:
    """The geometric mean of numbers above zero, (n,) with n > 0, and its interval.

    Args:
        skewed: whether to correct for the skewness of their logarithms.
    """
    logs = np.log(np.asarray(values, float))
    mean = float(logs.mean())
    if len(logs) < 2:
        return Interval(float(np.exp(mean)), 0.0, float("inf"), len(logs))
    end = quantile(len(logs) - 1, confidence)
    plain = np.array([-end, end])
    both = np.vstack([plain, _corrected(plain, logs) if skewed else plain])
    low, high = mean + _error(logs) * np.array([both.min(), both.max()])
    return Interval(float(np.exp(mean)), float(np.exp(low)), float(np.exp(high)), len(logs))


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The arithmetic mean of numbers, (n,) with n > 0, and its interval by Student's t."""
    numbers = np.asarray(values, float)
    mean, half = float(numbers.mean()), float("inf")
    if len(numbers) > 1:
        half = quantile(len(numbers) - 1, confidence) * _error(numbers)
    return Interval(mean, mean - half, mean + half, len(numbers))


def half_width(values: ArrayLike) -> float:
    """Half of the width of `mean_interval`; NaN of a single number."""
    found = mean_interval(values)
    return found.high - found.mean if found.size > 1 else float("nan")


def log_intervals(curves: ArrayLike, confidence: float = CONFIDENCE) -> list[Interval]:
    """`log_interval` of each column of curves (n, m)."""
    return [log_interval(column, confidence) for column in np.asarray(curves, float).T]


def paired_ratio(
    over: Sequence[float], under: Sequence[float], confidence: float = CONFIDENCE
) -> Interval:
    """The geometric mean of `over[i] / under[i]`, all above zero, and its interval.

    Differences of skewed logarithms are hardly skewed, so Student's t needs no correction.
    """
    ratios = np.asarray(over, float) / np.asarray(under, float)
    return log_interval(ratios, confidence, skewed=False)


@cache
def quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """The end of a symmetric interval of Student's t, such as 12.7 for one degree of freedom."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(freedom, (1 + confidence) / 2))


def draws_of_mean(values: ArrayLike, number: int, random: np.random.Generator) -> Values:
    """Draws (number,) of where the true mean of the logarithms of (n,) values lies, n > 1."""
    logs = np.log(np.asarray(values, float))
    drawn = np.asarray(random.standard_t(len(logs) - 1, number))
    return float(logs.mean()) + _error(logs) * _corrected(drawn, logs)


def _error(numbers: Values) -> float:
    """The standard error of the mean."""
    return float(numbers.std(ddof=1) / np.sqrt(len(numbers)))


def _corrected(statistics: Values, logs: Values) -> Values:
    """How far the true mean lies from the sample's, in standard errors, for values of Student's t.

    The minus of Hall's inverse at the minus of each value, with the sample's skewness.
    """
    deviations = logs - logs.mean()
    spread = float((deviations**2).mean()) ** 0.5
    skewness = float((deviations**3).mean()) / spread**3 if spread else 0.0
    if abs(skewness) < _LITTLE:
        return statistics
    root = float(np.sqrt(len(logs)))
    inside = 1 - skewness * (statistics / root + skewness / (6 * len(logs)))
    corrected: Values = -3 * root / skewness * (np.cbrt(inside) - 1)
    return corrected
