"""How often the intervals of repeated trainings cover the true mean.

`golden/repeated-losses.json` holds final losses of six small networks, one a seed: samples
drawn from them stand for trainings whose true mean is known. docs/experiments.md has the networks.
"""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t

from clapp.system.intervals import draws_of_mean, log_interval, log_intervals, paired_ratio

RECORDED = json.loads((Path(__file__).parent / "golden" / "repeated-losses.json").read_text())
SAMPLES = 800


def samples(pool: str, size: int) -> tuple[NDArray[np.float64], float]:
    """Samples (SAMPLES, size) of losses, and the true mean of their logarithms."""
    random = np.random.default_rng([size, *pool.encode()])
    if pool.startswith("log-normal"):
        spread = float(pool.split()[1])
        return np.exp(spread * random.standard_normal((SAMPLES, size))), 0.0
    losses = np.array(RECORDED[pool])
    return random.choice(losses, (SAMPLES, size)), float(np.log(losses).mean())


def covered(pool: str, size: int) -> float:
    found, true = samples(pool, size)
    intervals = [log_interval(sample) for sample in found]
    return float(np.mean([low <= np.exp(true) <= high for _, low, high, _ in intervals]))


def covered_plainly(pool: str, size: int) -> float:
    """The same for Student's t on the losses themselves, and their arithmetic mean."""
    found, _ = samples(pool, size)
    mean = np.exp(0.5) if pool.startswith("log-normal") else np.mean(RECORDED[pool])
    half = t.ppf(0.975, size - 1) * found.std(1, ddof=1) / size**0.5
    return float(np.mean(abs(found.mean(1) - mean) <= half))


@pytest.mark.parametrize("size", [3, 4, 5, 6, 8, 10, 20])
def test_intervals_cover_93_to_97_percent(size: int) -> None:
    shares = {pool: covered(pool, size) for pool in ("log-normal 0.3", "log-normal 1.0", *RECORDED)}
    assert 0.93 <= np.mean([*shares.values()]) <= 0.97, shares
    # One of the recorded ones is so skewed that few seeds cannot show it.
    least = 0.85 if size < 5 else 0.88 if size < 8 else 0.92
    assert least <= min(shares.values()), shares
    assert max(shares.values()) <= 0.99, shares
    simulated = [shares["log-normal 0.3"], shares["log-normal 1.0"]]
    assert all(0.93 <= share <= 0.98 for share in simulated), shares


@pytest.mark.parametrize("size", [3, 5, 10])
def test_intervals_of_ratios_cover_as_well(size: int) -> None:
    shares = []
    for over, under in combinations(RECORDED, 2):
        (first, mean), (second, other) = samples(over, size), samples(under, size)
        found = [paired_ratio(a, b) for a, b in zip(first[:300], second[:300], strict=True)]
        shares.append(np.mean([low <= np.exp(mean - other) <= high for _, low, high, _ in found]))
    assert (0.91 if size == 3 else 0.93) <= np.mean(shares) <= 0.97, shares
    assert min(shares) >= 0.84, shares


def test_students_t_of_plain_losses_would_not_cover() -> None:
    assert np.mean([covered_plainly(pool, 5) for pool in RECORDED]) < 0.87
    assert covered_plainly("log-normal 1.0", 5) < 0.87


def test_draws_of_the_mean_lie_in_the_interval_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    skewed = np.exp(np.random.default_rng(1).exponential(1, 12))
    for values in (skewed, 1 / skewed, [1.0, 2.0, 4.0, 8.0]):
        found = log_interval(values)
        drawn = np.exp(draws_of_mean(values, 20000, random))
        inside = np.mean((found.low <= drawn) & (drawn <= found.high))
        assert 0.945 <= inside <= 0.985


def test_equal_losses_have_an_interval_of_no_width() -> None:
    assert log_interval([0.25] * 5) == pytest.approx((0.25, 0.25, 0.25, 5))
    assert draws_of_mean([0.25] * 5, 3, np.random.default_rng(0)) == pytest.approx(
        np.log([0.25] * 3)
    )
    first, second = log_intervals([[1, 3], [4, 3], [2, 3]])
    assert (first.mean, second.mean) == pytest.approx((2, 3))
    assert first == log_interval([1, 4, 2])
