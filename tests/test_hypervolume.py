from datetime import datetime, timedelta

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from clapp.front.hypervolume import history, log_hypervolume, worst_point
from clapp.front.objectives import CONSTANT_LOSS, ZERO

# set_metric_names is experimental in Optuna.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

START = datetime(2026, 5, 1, 12)


def trial(number: int, values: list[float] | None, ended: float, **attributes: object):
    """A trial that took ten seconds; None: stopped early."""
    known = dict(zip(("loss", "params", "flops"), values or (), strict=False))
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE if values else TrialState.PRUNED,
        value=None,
        values=values,
        datetime_start=START + timedelta(seconds=ended - 10),
        datetime_complete=START + timedelta(seconds=ended),
        params={},
        distributions={},
        user_attrs={"config": {}, **known, **attributes},
        system_attrs={},
        intermediate_values={},
    )


def new_study(
    *trials: FrozenTrial, limits: dict[str, float] | None = None, constant: float | None = 0.1
) -> optuna.Study:
    study = optuna.create_study(directions=["minimize"] * 3)
    study.set_metric_names(["loss", "params", "flops"])
    study.set_user_attr("definition", {"limits": limits or {}})
    study.set_user_attr(CONSTANT_LOSS, constant)
    study.add_trials(trials)
    return study


def test_a_factor_of_ten_is_one_unit():
    assert log_hypervolume([[0.01, 10]], [0.1, 100]) == pytest.approx(1.0)
    assert log_hypervolume([[0.001, 10]], [0.1, 100]) == pytest.approx(2.0)
    assert log_hypervolume([[0.001, 10], [0.01, 1]], [0.1, 100]) == pytest.approx(2 + 2 - 1)
    assert log_hypervolume([[1e-4, 10, 1e6]], [0.1, 1000, 1e8]) == pytest.approx(3 * 2 * 2)


def test_equals_the_share_of_random_points_that_are_dominated():
    draw = np.random.default_rng(3)
    points = 10 ** draw.uniform(-2, 0, (12, 3))
    probes = 10 ** draw.uniform(-2, 0, (200_000, 3))
    dominated = (points[:, None] <= probes[None]).all(2).any(0).mean()
    assert log_hypervolume(points, [1, 1, 1]) == pytest.approx(8 * dominated, rel=0.02)


def test_what_is_worse_than_the_reference_adds_nothing():
    assert log_hypervolume([[0.2, 10]], [0.1, 100]) == 0
    assert log_hypervolume(np.empty((0, 2)), [0.1, 100]) == 0
    assert np.isfinite(log_hypervolume([[0.0, 10]], [0.1, 100]))


def test_worst_point_is_the_limit_or_the_largest_value():
    trials = [trial(0, [0.01, 300, 2e6], 10), trial(1, [0.5, 70, 4e6], 20)]
    assert worst_point(new_study(*trials)) == {"loss": 0.1, "params": 300, "flops": 4e6}
    limited = new_study(*trials, limits={"params": 5000, "loss": 0.03, "flops": None})
    # The second trial is over the limit of the loss, so it says nothing of the largest network.
    assert worst_point(limited) == {"loss": 0.1, "params": 5000, "flops": 2e6}


def test_history_follows_the_order_of_completion():
    study = new_study(
        trial(0, [0.01, 1000, 1e6], 40),
        trial(1, [0.01, 100, 1e6], 20),
        trial(2, None, 30),
        trial(3, None, 35, skipped="duplicate"),
        trial(4, [0.001, 1000, 1e5], 90),
        limits={"params": 10_000, "flops": 1e7},
    )
    found = history(study)
    # (0.1, 10,000, 1e7) is 1 x 2 x 1 away from the first; the third is dominated by it.
    assert [(m.seconds, m.trials) for m in found] == [(10, 1), (20, 2), (30, 3), (80, 4)]
    assert [m.hypervolume for m in found] == pytest.approx([2, 2, 2, 2 + 4 - 1])
    larger = history(study, {"loss": 1.0, "params": 10_000, "flops": 1e7})
    assert larger[0].hypervolume == pytest.approx(4)


def test_over_a_limit_is_trained_but_no_candidate():
    over, sizes = trial(0, [0.01, 10, 1e5], 10), {"params": 100, "flops": 1e7}
    assert history(new_study(over, limits={"loss": 0.02, **sizes}))[0].hypervolume > 0
    assert history(new_study(over, limits={"loss": 0.009, **sizes}))[0].hypervolume == 0


def test_losses_above_a_tenth_count_where_the_filter_is_that_hard():
    """Predicting the mean costs 0.248 for a threshold by Otsu."""
    one = trial(0, [0.2, 10, 1e6], 10)
    limits = {"params": 100, "flops": 1e7}
    hard = new_study(one, limits=limits, constant=0.248)
    assert history(hard)[0].hypervolume == pytest.approx(np.log10(0.248 / 0.2))
    assert history(new_study(one, limits=limits, constant=0.1))[0].hypervolume == 0


def test_nothing_trained():
    assert history(new_study()) == []
    assert history(new_study(create_trial(state=TrialState.FAIL))) == []
    assert worst_point(new_study())["loss"] == 0.1
    assert worst_point(new_study(constant=None))["loss"] == ZERO
