"""What brought something is tried more often."""

import numpy as np
import pytest

from clapp.study.sampling.credit import GUESSED, LEAST, Credit, kind


def test_the_kind_of_a_change_is_its_name_without_numbers() -> None:
    assert kind("block 0: 3 of 4 channels") == kind("block 2: 11 of 12 channels")
    assert kind("block 0: 5x1 then 1x5") == kind("block 1: 3x1 then 1x3")
    assert kind("block 0: 5x1 then 1x5") != kind("block 0: 5x1 then 1x5 depthwise")
    assert kind("no stem") != kind("a stem of 1")


def test_all_kinds_are_alike_as_long_as_nothing_is_known() -> None:
    credit = Credit()
    assert len(set(credit.weights("abc"))) == 1
    for one in "aab":
        credit.add(one, 0.0)
    assert credit.weights("c")[0] == pytest.approx(1 + LEAST)
    assert credit.weights("c")[0] > credit.weights("b")[0] > credit.weights("a")[0]


def test_a_kind_that_brings_more_is_tried_more_and_none_is_given_up() -> None:
    credit = Credit()
    for _ in range(1000):
        credit.add("good", 0.04)
        credit.add("bad", 0.0)
    good, bad, unknown = credit.weights(["good", "bad", "unknown"])
    assert good == pytest.approx(2 + LEAST, rel=0.02)
    assert bad == pytest.approx(LEAST, abs=2 * GUESSED / 1000)
    assert unknown == pytest.approx(1 + LEAST)


def test_a_rare_leap_counts_less_than_many_steps_of_the_same_sum() -> None:
    credit = Credit()
    for number in range(100):
        credit.add("leap", 1.0 if number == 0 else 0.0)
        credit.add("steps", 0.01)
        credit.add("nothing", 0.0)
    leap, steps, nothing = credit.weights(["leap", "steps", "nothing"])
    assert steps > leap > nothing
    assert np.isfinite([leap, steps, nothing]).all()
