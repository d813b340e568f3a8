"""The decisions of a search by themselves, and those of a real study taken again."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from decisions import decided, decided_again
from optuna.trial import FrozenTrial, TrialState, create_trial
from test_study_trials import Bench, result

from clapp.config import Config
from clapp.front.feasible import violations
from clapp.front.objectives import CONSTANT_LOSS
from clapp.front.record import TrialRecord, attributes, record_of
from clapp.study.pruning.decide import (
    Records,
    Rules,
    Skip,
    before_training,
    over_limit,
)
from clapp.study.pruning.history import History
from clapp.study.pruning.pruners import QUANTISATION, Front

NAMES = ["loss", "params", "flops"]


def trial(number: int, state: TrialState, values: Any = None, **facts: Any) -> FrozenTrial:
    made = create_trial(state=state, values=values, user_attrs=attributes(**facts))
    made.number = number
    return made


def test_violations_are_shares_of_the_limit() -> None:
    limits = {"params": 200.0, "flops": 1e6, "loss": 0.1}
    assert violations({"params": 300, "flops": 5e5}, limits) == {"params": 0.5, "flops": -0.5}
    assert over_limit({"params": 200}, limits) is None
    assert over_limit({"params": 300, "flops": 4e6}, limits) == Skip(
        "limit: flops 4e+06 exceeds 1e+06"
    )


def test_the_budget_a_duplicate_and_what_is_hopeless() -> None:
    perfect, small = QUANTISATION / 2, {"params": 50, "flops": 10**5}
    trials = [
        trial(0, TrialState.COMPLETE, [perfect, 50, 1e5], key="a", loss=perfect, **small),
        trial(1, TrialState.RUNNING, key="b", params=60, flops=10**5),
    ]
    own = TrialRecord(key="b", params=60, flops=10**5)

    def skipped(record: TrialRecord = own, limits: Any = None, **rules: Any) -> Skip | None:
        limits = limits or {}
        study = Rules(NAMES, limits, Front(), 0, constant_loss=0.1, **rules)
        return before_training(study, 1, record, History(trials), Records(NAMES, limits))

    assert skipped(budget=1) == Skip("surplus")
    hopeless = skipped(budget=2)
    assert hopeless is not None
    assert hopeless.reason.startswith("hopeless")
    assert skipped(TrialRecord(key="a", params=60, flops=10**5)) == Skip("duplicate", 0)
    assert skipped(TrialRecord(key="b", params=49, flops=10**5)) is None
    assert skipped(TrialRecord(key="b", params=60, flops=10**5, baseline="mine")) is None
    # What is over a limit that was lowered since is no alternative to anything.
    assert skipped(limits={"loss": perfect / 2}) is None


def test_of_two_that_were_started_at_once_the_first_goes_on() -> None:
    trials = [trial(n, TrialState.RUNNING, key="a") for n in range(2)]
    assert History(trials).duplicate(0, record_of(trials[0])) is None
    assert History(trials).duplicate(1, record_of(trials[1])) == 0
    enqueued = [trial(n, TrialState.RUNNING, key=str(n), baseline="mine") for n in range(2)]
    assert History(enqueued).duplicate(1, record_of(enqueued[1])) == 0


def test_a_loss_of_zero_is_no_division_by_zero() -> None:
    from clapp.study.pruning.pruners import Record, finished_from

    records = [Record((1.0,), {100: 0.0}, 0.0), Record((1.0,), {100: 1e-3}, 0.0)]
    before, after = finished_from(100, records).T
    assert list(after / before) == [1.0, pytest.approx(1e-6)]
    assert Front(min_finished=1).verdict(Record((2.0,), {100: 0.0}), records) is None


def falling(config: Config, report: Callable[[Any], bool], _: Any = None) -> Any:
    """A training whose loss follows from its learning rate, as far as it is let."""
    rate, width = config.train.learning_rate, config.model.capacity
    final = abs(rate - 0.004) + 0.02 / width
    for step in range(50, 801, 50):
        l2 = final * (1 + 200 / step)
        if report(SimpleNamespace(step=step, seconds=0.0, l2=l2)):
            return result(l2, "stopped")
    return result(final)


def test_a_real_study_is_decided_again_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clapp.study.running.objective.keep", lambda *_: None)
    pruner = "{name: front, min_finished: 3, audit: 0.3, margin: 0.05}"
    text = f"pruner: {pruner}\nsampler: random\nlimits: {{params: 4000, loss: 0.02}}"
    bench = Bench(tmp_path, f"{text}\nbudget: {{trials: 40}}")
    assert bench.work(falling) == "the budget is spent"
    plan, trials = bench.plan, bench.trials()
    constant = bench.study.user_attrs[CONSTANT_LOSS]
    rules = Rules(plan.objectives, plan.limits, plan.file.pruner, plan.seed, 40, 2, constant)
    found = list(decided(trials))
    assert found == list(decided_again(trials, rules))
    assert any(one.stopped for one in found)
    assert any(one.audited for one in found)
    assert any("limit" in (one.skipped or "") for one in found)
