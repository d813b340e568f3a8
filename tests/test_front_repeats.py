"""What repetitions say of a front, and where they are kept."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from synthetic import made_up_study

from clapp.front.outcomes import (
    Candidate,
    beats,
    candidates,
    front_of,
)
from clapp.front.repeats import (
    Repeats,
    expected_loss,
    front_chances,
    repeats_of,
    store_repeats,
)
from clapp.front.tables import front_document, front_table, write_front
from clapp.system.intervals import log_interval, paired_ratio

NAMES = ["loss", "params"]


def candidate(trial: int, params: int, losses: list[float | None], loss: float = 0.5) -> Candidate:
    values = {"loss": loss, "params": float(params)}
    repeats = Repeats(trial, range(len(losses)), losses, [1.0] * len(losses))
    return Candidate(trial, values, params, 10 * params, loss, {}, repeats=repeats)


def test_the_mean_over_seeds_is_that_of_decibels() -> None:
    found = candidate(0, 9, [0.001, 0.01, None, 0.1])
    assert expected_loss(found) == pytest.approx(0.01)
    assert found.repeats is not None
    assert (found.repeats.diverged, found.repeats.interval.size) == (1, 3)
    t = 4.302652729911275  # of two degrees of freedom; the logarithms spread by ln 10
    assert found.repeats.interval.high == pytest.approx(0.01 * math.exp(t * math.log(10) / 3**0.5))
    assert "3 seeds, 1 diverged" in found.repeats.describe()
    assert expected_loss(replace(found, repeats=None)) == 0.5
    assert expected_loss(candidate(0, 9, [None, None])) == 0.5
    assert paired_ratio([2, 4, 8], [1, 1, 1])[:1] == log_interval([2, 4, 8])[:1]
    assert log_interval([3.0]) == (pytest.approx(3), 0, math.inf, 1)


def test_who_beats_the_reference_is_decided_by_the_means() -> None:
    reference = candidate(0, 9, [], 0.01)
    lucky = candidate(1, 5, [0.02, 0.02], 0.005)
    assert not beats(lucky, reference)
    assert beats(replace(lucky, repeats=None), reference)


def test_chances_follow_from_the_spread_over_seeds() -> None:
    random = np.random.default_rng(3)

    def seeds(mean: float, spread: float = 0.2) -> list[float | None]:
        return [*(mean * np.exp(spread * random.standard_normal(8)))]

    small, large, beaten = seeds(0.02), seeds(0.005), seeds(0.02)
    found = [candidate(0, 10, small), candidate(1, 20, large), candidate(2, 30, beaten)]
    chances = front_chances([*found, candidate(3, 10, [0.1])], NAMES)
    assert set(chances) == {0, 1, 2}  # of the fourth nothing is known
    assert (chances[0], chances[2]) == (1.0, 0.0)  # nothing is smaller; 1 is better and smaller
    assert chances[1] > 0.999
    # Two of one size and one distribution are on the front as often as each other.
    same = seeds(0.01)
    equal = front_chances([candidate(0, 10, same), candidate(1, 10, same)], NAMES)
    assert equal[0] == pytest.approx(0.5, abs=0.03)


def test_what_is_stored_in_a_study_stands_beside_its_front() -> None:
    study = made_up_study(30)
    first, *others = front_of(study)
    for number, one in enumerate((first, *others)):
        store_repeats(study, Repeats(one.trial, (0, 1, 2), (0.1, 0.11, 0.12 + number), (1, 1, 1)))
    store_repeats(study, Repeats(first.trial, (0, 1), (0.2, None), (1.0, 1.5), True, True))
    study.set_user_attr("repeats:x", {"trial": 3})  # somebody else's
    assert set(repeats_of(study)) == {one.trial for one in (first, *others)}
    assert repeats_of(study)[first.trial] == Repeats(
        first.trial, (0, 1), (0.2, None), (1.0, 1.5), True, True
    )
    with_repeats = {one.trial for one in candidates(study) if one.repeats is not None}
    assert with_repeats == set(repeats_of(study))
    rows = front_document(study)["front"]
    expected = {"seeds": 2, "diverged": 1, "mean": pytest.approx(0.2), "interval": None}
    assert rows[0]["repeats"] == {**expected, "stopped": True, "on_front": None}
    assert 0 <= rows[1]["repeats"]["on_front"] <= 1
    text = io.StringIO()
    Console(file=text, width=200).print(front_table(front_of(study), None))
    assert "mean over seeds [95 %]" in text.getvalue()
    assert "1 seed, 1 diverged" in text.getvalue()


def test_a_table_of_a_front_has_no_nested_cells(tmp_path) -> None:
    study = made_up_study(10)
    store_repeats(study, Repeats(front_of(study)[0].trial, (0,), (0.1,), (1.0,)))
    write_front(tmp_path, study)
    head, row, *_ = (tmp_path / "front.csv").read_text().splitlines()
    assert "repeats" not in head
    assert "{" not in row
