"""How optimistic a search was."""

import math

import numpy as np
import pytest

from clapp.front.optimism import Both, optimism, read_measured, read_tested, write_measured
from clapp.training.losses import spread


def both(valid, test) -> Both:
    return Both(spread(valid, range(len(valid))), spread(test, range(len(test))))


def test_the_geometric_mean_of_the_models_without_the_reference():
    models = {
        1: both([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]),
        2: both([1.0, 1.0, 1.0], [8.0, 8.0, 8.0]),
        9: both([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]),
    }
    found = optimism(models, [1, 2, 9], 9)
    assert found is not None
    assert (found.factor, found.low, found.high) == pytest.approx((4.0, 4.0, 4.0))
    assert found.models == 2
    assert found.reference == pytest.approx(2.0)
    assert found.relative == pytest.approx((2.0, 2.0, 2.0))
    assert "4.00 (95 % interval 4.00 to 4.00)" in found.words()
    assert "relative to that 2.00 (2.00 to 2.00)" in found.words()
    assert found.document()["models"] == 2
    alone = optimism(models, [1], None)
    assert alone is not None
    assert alone.relative is None
    assert "reference" not in alone.words()


def test_nothing_is_said_of_too_little():
    assert optimism({}, [1], None) is None
    assert optimism({1: both([1.0], [2.0, 3.0])}, [1], None) is None
    other_sets = {1: both([1.0, 2.0], [1.0, 2.0]), 2: both([1.0, 2.0, 3.0], [1.0, 2.0])}
    assert optimism(other_sets, [1, 2], None) is None


def test_intervals_hold_the_planted_factor():
    """Pictures are hard for all models alike; choosing has flattered by a factor of 1.5."""
    draw, held, relative, narrower, number = np.random.default_rng(3), 0, 0, 0, 300
    for _ in range(number):
        hard = [np.exp(draw.normal(0, 0.5, 6)) for _ in range(2)]

        def losses(flattered: float) -> Both:
            own = [np.exp(draw.normal(0, 0.2, 6)) for _ in range(2)]
            return both(hard[0] * own[0], flattered * hard[1] * own[1])  # noqa: B023

        models = {n: losses(1.5) for n in range(5)} | {5: losses(1.0)}
        found = optimism(models, range(5), 5)
        held += found.low <= 1.5 <= found.high
        relative += found.relative[1] <= 1.5 <= found.relative[2]
        width = math.log(found.relative[2] / found.relative[1])
        narrower += width < math.log(found.high / found.low)
    assert 0.9 <= held / number <= 0.99
    assert 0.87 <= relative / number <= 0.99
    assert narrower / number > 0.9  # against the reference the pictures' difficulty cancels out


def test_what_was_measured_is_read_again(tmp_path):
    stored = {3: ("digest", both([1.0, 3.0], [2.0, 4.0]))}
    write_measured(tmp_path, stored)
    assert read_measured(tmp_path) == stored
    assert read_tested(tmp_path)[3].ratio == 1.5
    (tmp_path / "tested.json").write_text('{"format": 1, "models": {"3": 5}}')
    assert read_tested(tmp_path) == {}
    assert read_tested(tmp_path / "nowhere") == {}
    write_measured(tmp_path / "tested.json", stored)  # cannot be written: as if read-only
