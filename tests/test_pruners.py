from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from clapp.study.pruning.pruners import (
    MOASHA,
    PRUNERS,
    QUANTISATION,
    Front,
    Nothing,
    Record,
    bar,
    constant,
    crowding_distance,
    is_audited,
    parse,
)


def finished(sizes: tuple[float, ...], at_100: float, loss: float) -> Record:
    return Record(sizes, {100: at_100, 200: (at_100 + loss) / 2}, loss)


def running(sizes: tuple[float, ...], at_100: float) -> Record:
    return Record(sizes, {100: at_100})


# Losses fall to between a tenth and a half of what they were at step 100.
MANY = [finished((500.0 + i, 5e6), 0.01, 0.001 * (1 + i % 5)) for i in range(20)]


def test_front_stops_what_cannot_reach_the_best_of_its_size() -> None:
    pruner = Front(quantile=0.0, margin=0.0)
    verdict = pruner.verdict(running((600, 6e6), 0.02), MANY)
    assert verdict is not None
    assert (verdict.step, verdict.l2, verdict.bar) == (100, 0.02, 0.001)
    assert verdict.predicted == pytest.approx(0.002)
    assert pruner.verdict(running((600, 6e6), 0.0099), MANY) is None


def test_front_does_not_compare_with_anything_larger() -> None:
    pruner = Front(quantile=0.0, margin=0.0)
    for sizes in ((499, 6e6), (600, 4e6)):  # smaller than all others in one size
        assert pruner.verdict(running(sizes, 0.09), MANY) is None
    # Predicting the mean is no larger than anything, so the smallest network has a bar as well.
    others = [*MANY, constant(0.008, 2)]
    assert pruner.verdict(running((1, 1), 0.09), others) is not None
    assert pruner.verdict(running((1, 1), 0.07), others) is None


def test_front_waits_for_enough_trials_and_looks_at_the_quantile_and_the_margin() -> None:
    bad = running((600, 6e6), 0.05)
    assert Front(min_finished=20).verdict(bad, MANY) is not None
    assert Front(min_finished=21).verdict(bad, MANY) is None
    even = running((600, 6e6), 0.011)  # 0.0011 at best, 0.0033 as a rule
    assert Front(quantile=0.5).verdict(even, MANY) is not None
    assert Front(quantile=0.0).verdict(even, MANY) is None
    assert Front(quantile=0.0, margin=0.05).verdict(even, MANY) is not None
    assert Front(quantile=0.0, margin=0.1).verdict(even, MANY) is None


def test_front_does_not_train_what_is_no_better_whatever_its_loss() -> None:
    perfect = [Record((100, 1e6), {}, QUANTISATION)]
    assert Front().hopeless((100, 1e6), perfect)
    assert not Front().hopeless((99, 1e6), perfect)
    assert not Front().hopeless((100, 1e6), MANY)


def test_bar() -> None:
    assert bar((505, 5e6), MANY) == 0.001
    assert bar((501, 5e6), [*MANY, running((1, 1), 1e-9)]) == 0.001
    assert bar((499, 5e6), MANY) == float("inf")


def rungs(pruner: Any, interval: int) -> list[int]:
    steps = range(0, 900, interval)
    return [step for before, step in pairwise(steps) if pruner.is_rung(before, step)]


def test_rungs_are_geometric_and_fall_on_validations() -> None:
    assert rungs(Front(), 50) == rungs(Front(), 100) == [200, 400, 800]
    assert rungs(Front(), 30) == [210, 420, 810]
    assert rungs(Front(), 300) == [300, 600]  # two rungs within an interval are one
    assert rungs(MOASHA(warmup=50, eta=3), 10) == [50, 150, 450]
    assert rungs(Nothing(), 50) == []


def test_mo_asha_keeps_the_better_half_of_each_rung() -> None:
    pruner = MOASHA()
    first = running((500, 5e6), 0.5)
    assert pruner.verdict(first, []) is None
    others = [running((100.0 * i, 1e6 * i), 0.1 * i) for i in range(2, 8)]
    assert pruner.verdict(running((100, 1e6), 0.1), others) is None  # dominates all
    assert pruner.verdict(running((350, 3.5e6), 0.35), others) is None  # third of seven
    assert pruner.verdict(running((450, 4.5e6), 0.45), others) is not None  # fourth
    assert pruner.verdict(running((900, 9e6), 0.9), others) is not None
    beside = Record((1, 1), {50: 0.001})  # never came to this rung
    assert pruner.verdict(running((350, 3.5e6), 0.35), [*others, *[beside] * 50]) is None


def test_mo_asha_prefers_the_solitary_within_a_rank() -> None:
    crowd = [running((100 + i * i, 1e6), 0.1 - 0.001 * i) for i in range(9)]
    alone = running((400, 1e6), 0.02)
    assert MOASHA().verdict(alone, crowd) is None
    assert MOASHA().verdict(crowd[7], [*crowd[:7], crowd[8], alone]) is None
    assert MOASHA().verdict(crowd[1], [crowd[0], *crowd[2:], alone]) is not None


def test_crowding_distance() -> None:
    points = np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0], [2.0, 1.0]])
    # By hand: neighbours of the second are the first and the fourth, of the fourth the second
    # and the third; both spans are 4.
    assert crowding_distance(points).tolist() == [np.inf, 2 / 4 + 3 / 4, np.inf, 3 / 4 + 3 / 4]
    assert crowding_distance(np.ones((2, 3))).tolist() == [0, 0]  # neither is on its own


def test_the_audit_is_a_seeded_share() -> None:
    chosen = {n for n in range(4000) if is_audited(Front(audit=0.05), 0, n)}
    assert 150 < len(chosen) < 250
    assert chosen == {n for n in range(4000) if is_audited(Front(audit=0.05), 0, n)}
    assert chosen != {n for n in range(4000) if is_audited(Front(audit=0.05), 1, n)}
    assert not any(is_audited(Front(audit=0.0), 0, n) for n in range(100))
    assert all(is_audited(Front(audit=1.0), 0, n) for n in range(100))


def test_pruners_by_name() -> None:
    assert {name: parse(name).name for name in PRUNERS} == {name: name for name in PRUNERS}
    chosen = parse({"name": "front", "quantile": 0.2})
    assert isinstance(chosen, Front)
    assert (chosen.quantile, chosen.warmup) == (0.2, 200)
    assert parse(chosen) is chosen
    assert parse(chosen.model_dump()) == chosen
