"""Trials in this process with a stand-in for the training: what is trained, skipped, failed."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy
import torch
from optuna.trial import FrozenTrial, TrialState

from clapp.config import Config, defaults, identity
from clapp.errors import ClappError, ConfigError, UserError
from clapp.front import trials
from clapp.front.feasible import unmet_limits
from clapp.front.record import RECORD, TrialRecord, record_of
from clapp.study.plan import definition
from clapp.study.plan.existing import load_existing
from clapp.study.plan.plan import Plan, make_plan
from clapp.study.preparing import prepare
from clapp.study.running.job import Job
from clapp.study.running.objective import Objective
from clapp.study.running.recovery import Recovery
from clapp.study.running.running_trial import RunningTrial
from clapp.study.running.stop import Stop
from clapp.study.running.worker import run
from clapp.study.storage import retries
from clapp.study.storage.place import SQLITE
from clapp.study.storage.redaction import redact
from clapp.study.storage.storage import default_url, file_url, open_storage
from clapp.system.seeding import derived_seed

SPACE = """
search_space:
  model.capacity: {type: int, low: 1, high: 40}
  train.learning_rate: {type: float, low: 0.001, high: 0.01, log: true}
"""

RATE = defaults()["train"]["learning_rate"]


def result(loss: float = 0.5, reason: str = "iterations") -> Any:
    timings = {"data": 0.02, "step": 0.07, "validate": 0.01}
    return SimpleNamespace(
        loss=loss,
        spread=None,
        stop_reason=reason,
        iterations=10,
        seconds=0.1,
        timings=timings,
        device="cpu",
        optimizer="adam",
        starts=0,
        model=torch.nn.Linear(50, 50),  # too large for children to inherit its weights
    )


def train(config: Config, report: Callable[[Any], bool], _weights: Any = None) -> Any:
    report(SimpleNamespace(step=5, seconds=0.5, l2=0.1))
    return result(1 / config.model.capacity)


class Bench:
    """A study in a temporary folder, and workers in this process."""

    def __init__(self, folder: Path, text: str, space: str = SPACE, url: str | None = None) -> None:
        path = folder / "mine.yaml"
        path.write_text(f"{space}\n{text}")
        self.plan: Plan = make_plan(str(path))
        self.folder = folder / "mine"
        self.url = url or default_url(self.folder)
        prepare.make_folder(self.folder)
        locks = self.folder / definition.LOCKS
        self.study = prepare.create_study(self.plan, open_storage(self.url), locks)
        self.recovery = Recovery(self.study, locks, True, self.plan.file.max_retry)
        self.events: list[dict[str, Any]] = []

    def job(self, **changes: Any) -> Job:
        job = {
            "name": "mine",
            "document": self.plan.document(),
            "storage": self.url,
            "folder": str(self.folder),
            "artifacts": None,
            "device": None,
            "deadline": None,
            "first": len(self.trials()),
            "salt": "",
            "worker": "w",
        }
        return Job(**(job | changes))

    def work(self, fake: Any = train, stop: Stop | None = None, **changes: Any) -> str:
        return run(self.job(**changes), self.emit, stop or Stop(), fake)

    def emit(self, event: str, **data: Any) -> None:
        self.events.append({"event": event, **data})

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)


@pytest.fixture(autouse=True)
def _keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapp.study.running.objective.keep", lambda *_: None)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def test_the_reference_comes_first_and_exactly(tmp_path: Path) -> None:
    seen: list[Config] = []

    def watch(config: Config, report: Any, _weights: Any = None) -> Any:
        seen.append(config)
        return train(config, report)

    bench = Bench(tmp_path, "budget: {trials: 3}\nconfig: {train: {batch_size: 6}}")
    assert bench.work(watch) == "the budget is spent"
    assert [trial.state for trial in bench.trials()] == [TrialState.COMPLETE] * 3
    first = bench.trials()[0]
    assert record_of(first).baseline == "reference"
    assert first.params == {"model.capacity": 8, "train.learning_rate": RATE}
    assert (seen[0].model.capacity, seen[0].train.batch_size) == (8, 6)
    assert seen[0].train.stop_l2_loss is None
    assert first.values == [1 / 8, 2505, 230311936]
    assert record_of(first).config["train.batch_size"] == 6
    assert len({config.train.seed for config in seen}) == 3
    assert bench.study.metric_names == ["loss", "params", "flops"]


def test_a_baseline_outside_of_the_space_is_trained_as_written(tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(config: Config, report: Any, _weights: Any = None) -> Any:
        seen.append(config.model.capacity)
        return train(config, report)

    bench = Bench(tmp_path, "baselines: {large: {model.capacity: 50}}\nbudget: {trials: 1}")
    bench.work(watch)
    assert seen == [50]
    assert bench.trials()[0].params == {"train.learning_rate": RATE}


def test_a_configuration_is_trained_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "budget: {trials: 3}")
    same = {"model.capacity": 3, "train.learning_rate": 0.002}
    for _ in range(3):
        bench.study.enqueue_trial(same)
    bench.work()
    skipped = [trial for trial in bench.trials() if record_of(trial).skipped is not None]
    assert [(t.state, record_of(t).skipped, record_of(t).duplicate_of) for t in skipped] == [
        (TrialState.PRUNED, "duplicate", 1),
        (TrialState.PRUNED, "duplicate", 1),
    ]
    assert trials.trained(bench.trials()) == 3


def test_an_exhausted_space_ends_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapp.study.running.worker.SKIPS_IN_A_ROW", 20)
    two = "search_space: {model.capacity: {type: int, low: 1, high: 2}}"
    bench = Bench(tmp_path, "baselines: {}\nsampler: random\nbudget: {trials: 5}", space=two)
    assert "20 trials in a row were skipped" in bench.work()
    assert trials.trained(bench.trials()) == 2
    # A later run counts anew: something, such as a limit, may have changed.
    assert "20 trials in a row were skipped" in bench.work()
    assert len(bench.trials()) >= 42


def test_limits_are_checked_before_training(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "limits: {params: 600, loss: 0.4}\nbudget: {trials: 8}")
    trained: list[int] = []

    def watch(config: Config, report: Any, _weights: Any = None) -> Any:
        trained.append(config.model.capacity)
        return train(config, report)

    bench.work(watch)
    reference, *_ = bench.trials()
    assert record_of(reference).skipped == "limit: params 2505 exceeds 600"
    assert reference.system_attrs["constraints"] == [pytest.approx(2505 / 600 - 1)]
    assert 8 not in trained
    assert len(trained) == 8
    for trial in bench.trials():
        if trial.state == TrialState.COMPLETE:
            assert record_of(trial).params <= 600
            within = max(trial.constraints.values(), default=0) <= 0
            assert within == (trial.values[0] <= 0.4)


def test_failures_are_recorded_and_do_not_count(tmp_path: Path) -> None:
    outcomes = iter([result(float("nan"), "nan"), RuntimeError("no memory"), result(), result()])

    def fake(config: Config, report: Any, _weights: Any = None) -> Any:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    bench = Bench(tmp_path, "budget: {trials: 2}")
    assert bench.work(fake) == "the budget is spent"
    reasons = [record_of(trial).failed for trial in bench.trials()]
    assert reasons == ["nan after 10 iterations", "RuntimeError: no memory", None, None]
    # A baseline that failed is tried again by the next run, another trial is not.
    assert retries.enqueue_again(bench.study, 2, failed_baselines=True) == 1
    waiting = bench.trials()[-1]
    assert (record_of(waiting).baseline, record_of(waiting).retry_of) == ("reference", 0)
    assert retries.enqueue_again(bench.study, 2, failed_baselines=True) == 0


def test_a_broken_set_up_ends_after_five_failures(tmp_path: Path) -> None:
    def broken(config: Config, report: Any, _weights: Any = None) -> Any:
        raise RuntimeError("the disk is full")

    bench = Bench(tmp_path, "")
    with pytest.raises(ClappError, match=r"5 trials in a row failed.*the disk is full"):
        bench.work(broken)
    assert len(bench.trials()) == 5


def test_a_network_that_does_not_fit_the_pictures_is_skipped(tmp_path: Path) -> None:
    def picky(config: Config, report: Any, _weights: Any = None) -> Any:
        if config.model.capacity == 8:
            raise ConfigError("train_data.crop_size 16: this network needs at least 20 pixels")
        return train(config, report)

    bench = Bench(tmp_path, "budget: {trials: 1}")
    bench.work(picky)
    reference = bench.trials()[0]
    assert reference.state == TrialState.PRUNED
    assert record_of(reference).skipped.startswith("invalid: train_data.crop_size 16")


def test_the_users_mistake_ends_the_study_at_once(tmp_path: Path) -> None:
    def missing(config: Config, report: Any, _weights: Any = None) -> Any:
        raise UserError("no folder /pictures")

    bench = Bench(tmp_path, "")
    with pytest.raises(UserError, match="no folder /pictures"):
        bench.work(missing)
    assert [trial.state for trial in bench.trials()] == [TrialState.FAIL]


def test_the_end_of_the_time_is_not_the_end_of_the_trial(tmp_path: Path) -> None:
    def slow(config: Config, report: Any, _weights: Any = None) -> Any:
        while not report(SimpleNamespace(step=1, seconds=0.1, l2=0.5)):
            time.sleep(0.01)
        return result(reason="stopped")

    bench = Bench(tmp_path, "")
    assert bench.work(slow, deadline=time.time() + 0.3) == "the study's time is over"
    (trial,) = bench.trials()
    assert record_of(trial).failed == "interrupted: the study's time is over"
    assert retries.enqueue_again(bench.study, 2) == 1
    assert bench.trials()[1].system_attrs["fixed_params"] == trial.params


def test_a_signal_stops_a_training_at_once(tmp_path: Path) -> None:
    def endless(config: Config, report: Any, _weights: Any = None) -> Any:
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
        time.sleep(30)

    stop = Stop()
    before = signal.signal(signal.SIGTERM, stop._handle)
    start = time.monotonic()
    try:
        assert Bench(tmp_path, "").work(endless, stop) == "stopped"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - start < 10


def test_workers_at_once_reach_the_total_exactly(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "budget: {trials: 12}\nsampler: random")
    workers = [
        threading.Thread(target=bench.work, kwargs={"worker": f"w{i}", "index": i})
        for i in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert trials.trained(bench.trials()) == 12
    assert (
        len(
            {
                record_of(trial).key
                for trial in bench.trials()
                if record_of(trial).key is not None and record_of(trial).skipped is None
            }
        )
        == 12
    )


def test_a_surplus_trial_keeps_what_was_enqueued(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, "budget: {trials: 1}\nbaselines: {reference: {}, b: {model.capacity: 3}}"
    )
    for _ in range(2):
        bench.study.ask()
    job = bench.trials()[1]
    assert job.state == TrialState.RUNNING
    running = RunningTrial(bench.study, 1, record_of(job))
    running.note(skipped="surplus")
    running.finish(TrialState.PRUNED)
    assert trials.trained(bench.trials()) == 0
    assert retries.enqueue_again(bench.study, 2) == 1
    assert record_of(bench.trials()[2]).baseline == "b"


def test_lost_trials_are_recovered_once_and_not_for_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "max_retry: 2")
    for attempt in range(1, 4):
        trial = bench.study.ask()
        trial.set_user_attr(RECORD, replace(record_of(trial), worker="dead").document())
        trial.suggest_int("model.capacity", 1, 40)
        bench.recovery.recover()
        bench.recovery.recover()
        assert bench.trials()[trial.number].state == TrialState.FAIL
        waiting = [t for t in bench.trials() if t.state == TrialState.WAITING]
        assert len(waiting) == (attempt < 3)
    assert [(record_of(t).retry_of, record_of(t).failed) for t in bench.trials()] == [
        (None, "interrupted: its worker was killed (attempt 1 of 3)"),
        (0, "interrupted: its worker was killed (attempt 2 of 3)"),
        (1, "its worker was killed (attempt 3 of 3)"),
    ]


def test_what_was_lost_is_tried_again_within_the_budget(tmp_path: Path) -> None:
    """Though nobody but the workers can enqueue it, and one of them has drawn another already."""
    bench = Bench(tmp_path, "budget: {trials: 2}\nsampler: random")
    reference, killed, drawn = (bench.study.ask() for _ in range(3))
    killed.suggest_int("model.capacity", 33, 33)
    for trial in (reference, killed):  # as Optuna does where a heartbeat has run out
        bench.study.tell(trial, state=TrialState.FAIL)
    objective = Objective(bench.plan, bench.job(), train, bench.emit, Stop())
    running = RunningTrial(bench.study, drawn.number, TrialRecord(), asked=drawn)
    with pytest.raises(optuna.TrialPruned, match="surplus"):
        objective(running)
    running.finish(TrialState.PRUNED)
    assert bench.work(deadline=time.time() + 60) == "the budget is spent"
    assert {trial.state for trial in bench.trials()} == {
        TrialState.FAIL,
        TrialState.PRUNED,
        TrialState.COMPLETE,
    }
    again = [record_of(trial).retry_of for trial in bench.trials() if trials.is_trained(trial)]
    assert again == [reference.number, killed.number]
    assert bench.trials()[-1].params["model.capacity"] == 33


def test_a_changed_study_is_refused(tmp_path: Path) -> None:
    Bench(tmp_path, "budget: {trials: 1}")
    with pytest.raises(UserError, match="study mine: seed is not what the study was started with"):
        Bench(tmp_path, "seed: 3")
    Bench(tmp_path, "budget: {trials: 2}\nlimits: {params: 9}")


def test_identity_sees_only_what_matters(tmp_path: Path) -> None:
    plan = Bench(tmp_path, "").plan

    def key(seed: int = 0, **changes: Any) -> str:
        return identity(
            plan.config({k.replace("__", "."): v for k, v in changes.items()}, seed, None)
        )

    assert key() == key(seed=5) == key(model__stem=8) == key(num_runs=3, experiment_name="x")
    assert key(model__norm="none") == key(model__norm="none", model__flip_conv_norm=False)
    assert len({key(), key(model__capacity=3), key(train__batch_size=4), key(model__stem=2)}) == 4


def test_derived_seeds_fit_and_differ() -> None:
    seeds = {derived_seed(0, "trial", number) for number in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql://u:***@h:5432/d"),
        (
            "postgresql+psycopg://u:p:a@b@h/d?password=xx&a=1",
            "postgresql+psycopg://u:***@h/d?***",
        ),
        ("nonsense:secret@x", "nonsense::***@x"),
        ("postgresql://ann:my secret word@h:1/x", "postgresql://ann:***@h:1/x"),
        ("postgresql://ann:a@b/c?d@h:1/x", "postgresql://***?***"),
        ("postgresql://h/d?passwd=word", "postgresql://h/d?***"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("journal:////a/b@c?d/study.journal", "journal:////a/b@c?d/study.journal"),
        ("journalist://u:secret@h/d", "journalist://:***@h/d"),
        ("grpc://token@h:1", "grpc://:***@h:1"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "url",
    ["nonsense:secret@x", "foo://u:secret@h/d", "mysql+nothing://u:secret@h/d", "sqlite://"],
)
def test_storage_errors_are_one_line_without_the_password(url: str) -> None:
    with pytest.raises(UserError) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello " * 1000)
    with pytest.raises(UserError, match="cannot be used: file is not a database"):
        open_storage(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_new_file_is_handed_out_with_its_write_ahead_log_on(tmp_path: Path) -> None:
    """Of several drivers that turned it on at once, SQLite would refuse one."""
    open_storage(f"sqlite:///{tmp_path / 'x.db'}")
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_reader_changes_nothing_in_a_database_of_somebody_else(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE trials (mine TEXT)")
        connection.commit()
    before = foreign.read_bytes()
    for url in (file_url(SQLITE, foreign), file_url(SQLITE, tmp_path / "missing.db")):
        with pytest.raises(UserError, match=r"it is no database of Optuna|no study named"):
            load_existing("mine", tmp_path, url)
    assert foreign.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.db"]


def test_a_reader_makes_no_tables_on_a_server(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is no database of Optuna"):
        load_existing("mine", tmp_path, postgres_url)
    engine = sqlalchemy.create_engine(postgres_url, poolclass=sqlalchemy.NullPool)
    assert sqlalchemy.inspect(engine).get_table_names() == []


def test_loading_what_was_never_started(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no study named 'smoke' in .*--study smoke"):
        load_existing("smoke", tmp_path)
    Bench(tmp_path, "")
    assert load_existing("mine", tmp_path).study_name == "mine"
    with pytest.raises(UserError, match="no study named 'other' in journal"):
        load_existing("other", tmp_path, default_url(tmp_path / "mine"))


def test_a_worker_taken_for_dead_goes_on_with_the_next_trial(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "budget: {trials: 2}")

    def slow(config: Config, report: Any, _weights: Any = None) -> Any:
        if len(bench.trials()) == 1:
            assert retries.interrupt(bench.study, bench.trials()[0], "its worker was killed")
        return train(config, report)

    assert bench.work(slow) == "the budget is spent"
    assert bench.trials()[0].state == TrialState.FAIL
    assert trials.trained(bench.trials()) == 2


SMALL_SPACE = "search_space: {model.capacity: {type: int, low: 1, high: 7}}"


@pytest.mark.parametrize(("name", "sampler"), [("latency", "evolution"), ("latency", "random")])
def test_a_measured_limit_that_nothing_meets_is_named_with_the_smallest_value(
    name: str, sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sampler != "evolution":  # which knows by itself when nothing new is left
        monkeypatch.setattr("clapp.study.running.worker.SKIPS_IN_A_ROW", 6)
    bench = Bench(tmp_path, f"limits: {{{name}: 0.01}}\nsampler: {sampler}", SMALL_SPACE)
    with pytest.raises(UserError) as caught:
        bench.work()
    found = [record_of(trial).value(name) for trial in bench.trials()]
    assert len(found) >= 3
    assert str(caught.value) == (
        f"study mine: limits.{name}: 0.01 is not allowed; allowed: at least {min(found):g} ms, "
        f"the smallest of {len(found)} networks that were tried"
    )


def test_limits_that_nothing_meets_at_once() -> None:
    limits, names = {"latency": 10.0, "heat": 10.0}, ["loss", "params"]
    either = [{"latency": 5.0, "heat": 50.0}, {"latency": 50.0, "heat": 5.0}]
    found = [
        optuna.trial.create_trial(
            state=TrialState.PRUNED,
            user_attrs={RECORD: TrialRecord(skipped="limit", others=one).document()},
        )
        for one in either
    ]
    assert unmet_limits(found, names, limits) == (
        "limits: none of 2 networks that were tried keeps to latency 10 and heat 10 at once; "
        "raise one of them"
    )
    assert unmet_limits(found, names, {"latency": 10.0, "heat": 4.0}) == (
        "limits.heat: 4 is not allowed; allowed: at least 5, the smallest of 2 networks that were "
        "tried"
    )
    trained = TrialRecord(loss=0.1, others={"latency": 5.0, "heat": 5.0}).document()
    found.append(optuna.trial.create_trial(values=[0.1, 9], user_attrs={RECORD: trained}))
    assert unmet_limits(found, names, limits) is None


def test_a_study_with_trained_trials_that_finds_nothing_new_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latencies = iter([5.0, *[50.0] * 1000])
    monkeypatch.setattr(
        "clapp.study.running.objective.measured_costs", lambda *_: {"latency": next(latencies)}
    )
    monkeypatch.setattr("clapp.study.running.worker.SKIPS_IN_A_ROW", 6)
    bench = Bench(tmp_path, "limits: {latency: 10}\nsampler: random")
    assert bench.work().startswith(
        "6 trials in a row were skipped, the last for: limit: latency 50"
    )
    assert trials.trained(bench.trials()) == 1
    for trial in bench.trials():  # also what was skipped for it
        record = record_of(trial)
        assert record.measured_on is not None
        assert record.measured_on.endswith(", alone")


def test_workers_let_one_that_measures_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clapp.study.running.objective.measured_costs", lambda *_: {"latency": 5.0})
    rests: list[bool] = []
    monkeypatch.setattr("clapp.system.alone.Alone.rest", lambda self: rests.append(self._working))
    bench = Bench(tmp_path, "limits: {latency: 10}\nbudget: {trials: 1}")
    bench.work()
    assert rests == [True]  # at the only validation, while it works


def test_a_space_in_which_everything_was_tried_ends_the_search_well(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "", SMALL_SPACE)
    assert "nothing new seems to be left in the search space" in bench.work()
    assert trials.trained(bench.trials()) >= 3
