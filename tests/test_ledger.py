"""Early stopping within a study, and the ledger of it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from test_study_trials import Bench, result

from clapp.config import Config
from clapp.front.ledger import audit, ledger, write_ledger
from clapp.front.record import record_of
from clapp.front.trials import trained

STOPPING = """
baselines: {reference: {}}
config:
  valid_data: {resize_base: 32, crop_size: 32, num_images: 2}
  train: {max_iterations: 400}
pruner: {name: front, min_finished: 4, margin: 0, audit: %s}
budget: {trials: 40}
"""
STEPS = (100, 200, 300, 400)


@pytest.fixture(autouse=True)
def _keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapp.study.running.objective.keep", lambda *_: None)


def curve(config: Config) -> list[float]:
    """Networks of more than ten channels learn nothing more than smaller ones do."""
    start = 0.02 / min(config.model.capacity, 10)
    return [start * factor for factor in (1, 0.8, 0.7, 0.5)]


def train(config: Config, report: Any, _weights: Any = None) -> Any:
    for count, (step, l2) in enumerate(zip(STEPS, curve(config), strict=True), start=1):
        point = SimpleNamespace(step=step, seconds=count * 0.25, l2=l2)
        if report(point):
            break
    done = result(l2, "stopped" if step < 400 else "iterations")
    done.iterations, done.seconds = step, count * 0.25
    done.timings = {"data": count * 0.04, "decode": count * 0.01}
    done.timings |= {"step": count * 0.2, "validate": 0.0}
    return done


def test_trials_that_cannot_join_the_front_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    monkeypatch.setattr(
        "clapp.study.running.objective.keep", lambda _, number, *__: kept.append(number)
    )
    bench = Bench(tmp_path, STOPPING % 0)
    assert bench.work(train) == "the budget is spent"
    trials = bench.trials()
    assert trained(trials) == 40
    stopped = [t for t in trials if record_of(t).stopped is not None]
    assert stopped
    assert {t.state for t in stopped} == {TrialState.PRUNED}
    assert sorted(kept) == [t.number for t in trials if record_of(t).skipped is None]
    assert all(record_of(t).skipped is None for t in stopped)
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    for trial in stopped:
        verdict = record_of(trial).stopped
        # The bar is a finished one that is no larger; every curve falls to half of its start.
        bars = [t.values[0] for t in finished if t.values[1] <= record_of(trial).params]
        assert verdict["bar"] in bars
        fall = {100: 0.5, 200: 0.5 / 0.8}[verdict["step"]]
        assert verdict["predicted"] == pytest.approx(verdict["l2"] * fall)
        assert verdict["predicted"] > verdict["bar"]
        ran = verdict["step"] // 100
        assert [point[0] for point in record_of(trial).curve] == list(STEPS[:ran])
        assert record_of(trial).iterations == verdict["step"]
        assert record_of(trial).saved_seconds == pytest.approx(1 - ran / 4)
    book = ledger(bench.study)
    assert book["stopped"] == len(stopped)
    ran = [record_of(t).iterations / 400 for t in stopped]
    assert book["saved_seconds"] == pytest.approx(len(stopped) - sum(ran))
    assert book["audit"] is None
    assert book["seconds"]["training"] == pytest.approx(0.8 * (len(finished) + sum(ran)))
    assert book["seconds"]["decoding"] == pytest.approx(0.04 * (len(finished) + sum(ran)))
    assert book["seconds"]["sampling"] > 0


def test_audited_trials_run_on_and_nothing_is_decided_twice(tmp_path: Path) -> None:
    bench = Bench(tmp_path, STOPPING % 1)
    bench.work(train)
    trials = bench.trials()
    audited = [t for t in trials if record_of(t).audit is not None]
    assert audited
    assert {t.state for t in audited} == {TrialState.COMPLETE}
    assert not any(record_of(t).stopped is not None for t in trials)
    write_ledger(bench.folder, bench.study)
    book = json.loads((bench.folder / "ledger.json").read_text())
    assert book["audit"]["audited"] == len(audited)
    assert book["audit"]["joined"] == 0  # rightly: they were no better than smaller ones
    assert book["audit"]["interval"][0] == 0
    # Clopper and Pearson's upper end where none of n joined.
    upper = 1 - 0.025 ** (1 / len(audited))
    assert book["audit"]["interval"][1] == pytest.approx(upper)
    assert set(book["outcomes"]) == {
        "to the end",
        "stopped early",
        "audited",
        "skipped",
        "failed",
    }


def test_the_audit_estimates_what_was_lost() -> None:
    complete = [optuna.trial.create_trial(value=1.0, user_attrs={"audit": {}}) for _ in range(10)]
    for number, trial in enumerate(complete):
        trial.number = number
    pruned = optuna.trial.create_trial(
        state=TrialState.PRUNED, user_attrs={"stopped": {}, "saved_seconds": 1}
    )
    found = audit([*complete, *[pruned] * 30], {2, 99})
    assert found is not None
    assert (found["audited"], found["joined"], found["share"]) == (10, 1, 0.1)
    assert found["estimate"] == pytest.approx(3)
    assert found["interval"] == pytest.approx([0.0025, 0.445], abs=0.001)


def test_baselines_are_never_stopped(tmp_path: Path) -> None:
    text = (STOPPING % 0).replace("reference: {}", "big: {model.capacity: 40}")
    bench = Bench(tmp_path, text.replace("min_finished: 4", "min_finished: 1"))
    bench.work(train)
    assert record_of(bench.trials()[0]).baseline == "big"
    assert bench.trials()[0].state == TrialState.COMPLETE
