"""A storage that refuses a write, at every write of a trial in turn: nothing gets lost."""

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError
from test_study_trials import Bench, train

from clapp.front.outcomes import front_of
from clapp.front.record import record_of
from clapp.front.trials import is_lost, trained
from clapp.study.running import running_trial as running
from clapp.study.running.running_trial import RunningTrial, ask
from clapp.study.storage import journal, patience, signs
from clapp.study.storage.place import SQLITE
from clapp.study.storage.retries import interrupt
from clapp.study.storage.storage import file_url, storage_of

WRITES = ("INSERT", "UPDATE", "DELETE")
TRIALS = 40
"""More than a trial has writes."""


class Refusals:
    """Refuses one write a trial: the first of the first trial, the second of the second, ..."""

    def __init__(self) -> None:
        self.trial = self.writes = self.refused = 0
        self.armed = False

    def next_trial(self) -> None:
        self.trial, self.writes, self.armed = self.trial + 1, 0, True

    def is_due(self) -> bool:
        """Whether the write that comes now is to be refused."""
        self.writes += self.armed
        due = self.armed and self.writes == self.trial
        self.armed, self.refused = self.armed and not due, self.refused + due
        return due

    def look(self, *arguments: Any) -> None:
        statement = arguments[2] if len(arguments) > 1 else "COMMIT"
        if statement.startswith((*WRITES, "COMMIT")) and self.is_due():
            raise OperationalError(statement, None, Exception("injected"))

    def in_journal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cut = journal._cut_half_line

        def look(file: BinaryIO) -> None:
            cut(file)
            if self.is_due():
                file.write(b'{"op_code":')
                raise OSError(errno.ENOSPC, "injected")

        monkeypatch.setattr(journal, "_cut_half_line", look)

    @contextmanager
    def in_databases(self) -> Iterator[None]:
        for event in ("before_cursor_execute", "commit"):
            sqlalchemy.event.listen(sqlalchemy.Engine, event, self.look)
        try:
            yield
        finally:
            for event in ("before_cursor_execute", "commit"):
                sqlalchemy.event.remove(sqlalchemy.Engine, event, self.look)


@pytest.fixture(autouse=True)
def _keep_nothing_and_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapp.study.running.objective.keep", lambda *_: None)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("kind", ["journal", "sqlite", "postgres"])
@pytest.mark.parametrize("sampler", ["evolution", "random"])
def test_each_write_is_refused_once_and_nothing_is_lost(
    kind: str,
    sampler: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else None
    if kind == "sqlite":
        url = file_url(SQLITE, tmp_path / "study.db")
    bench = Bench(tmp_path, f"budget: {{trials: {TRIALS}}}\nsampler: {sampler}", url=url)
    refusals = Refusals()

    def fake(*arguments: Any) -> Any:
        done = train(*arguments)
        refusals.next_trial()  # from here on: the end of this trial, the beginning of the next
        return done

    if kind == "journal":
        refusals.in_journal(monkeypatch)
    with refusals.in_databases():
        assert bench.work(fake) == "the budget is spent"
    # A journal takes four writes of a trial, a database a dozen statements.
    assert refusals.refused >= (3 if kind == "journal" else 8)
    found = bench.trials()
    assert trained(found) == TRIALS
    assert {t.state for t in found} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    for trial in found:
        record = record_of(trial)
        if trial.state == TrialState.COMPLETE:
            assert trial.values == [record.loss, record.params, record.flops]
            told = (record.config, record.key, record.curve, record.timings, record.provenance)
            assert all(told), record
            assert None not in (record.worker, record.started, record.ended, record.iterations)
            assert len(trial.params) == 2
        elif trial.state == TrialState.FAIL:
            assert record.failed == "interrupted: what came out could not be stored"
    retried = {record_of(trial).retry_of for trial in found}
    assert {trial.number for trial in found if is_lost(trial)} <= retried
    assert front_of(bench.study)


def test_an_end_that_was_stored_although_it_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, "")
    trial = ask(bench.study, "w")
    write = RunningTrial._end
    calls: list[int] = []

    def ambiguous(*arguments: Any) -> None:
        write(*arguments)
        calls.append(1)
        if len(calls) == 1:
            raise OperationalError("COMMIT", None, Exception("the connection broke"))

    monkeypatch.setattr(RunningTrial, "_end", ambiguous)
    trial.finish(TrialState.COMPLETE, [0.1, 2, 3])
    assert len(calls) == 2
    assert bench.trials()[0].values == [0.1, 2, 3]


def test_a_trial_that_cannot_be_stored_is_given_back_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, "budget: {trials: 1}")
    left = ask(bench.study, "w")  # as if its end had been refused each time
    assert bench.work() == "the budget is spent"
    first, second = bench.trials()
    assert record_of(first).failed == "interrupted: what came out could not be stored"
    assert (record_of(second).retry_of, second.state) == (left.number, TrialState.COMPLETE)


@pytest.mark.parametrize("sampler", ["evolution", "random"])
def test_what_was_taken_without_a_name_is_given_back_without_a_driver(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that was stored although it was refused: nobody names the trial."""
    monkeypatch.setattr(signs, "NAMELESS_SECONDS", 0.2)
    bench = Bench(tmp_path, f"budget: {{trials: 2}}\nsampler: {sampler}")
    storage = type(storage_of(bench.study))
    write = storage.set_trial_state_values
    calls: list[int] = []

    def ambiguous(self: Any, trial_id: int, state: TrialState, values: Any = None) -> bool:
        done = write(self, trial_id, state, values)
        if state == TrialState.RUNNING:
            calls.append(trial_id)
            if len(calls) == 1:
                raise OperationalError("COMMIT", None, Exception("the connection broke"))
        return bool(done)

    monkeypatch.setattr(storage, "set_trial_state_values", ambiguous)
    assert bench.work() == "the budget is spent"
    first, *others = bench.trials()
    assert record_of(first).baseline == "reference"
    assert record_of(first).failed == "interrupted: its worker was killed (attempt 1 of 3)"
    again = next(trial for trial in others if record_of(trial).retry_of == 0)
    assert again.state == TrialState.COMPLETE
    assert record_of(again).baseline == "reference"
    assert trained(others) == 2


def test_a_worker_taken_for_dead_goes_on_with_another_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, "budget: {trials: 2}\nsampler: random\nbaselines: {}")
    store = RunningTrial.store
    failed: list[int] = []

    def too_late(self: RunningTrial) -> None:
        if not failed:
            failed.append(self.number)
            (running_one,) = (t for t in bench.trials() if t.number == self.number)
            interrupt(bench.study, running_one, "taken for dead")
        store(self)

    monkeypatch.setattr(RunningTrial, "store", too_late)
    assert bench.work() == "the budget is spent"
    assert trained(bench.trials()) == 2
    assert record_of(bench.trials()[0]).failed == "interrupted: taken for dead"


def test_a_storage_that_refuses_for_good_is_named(tmp_path: Path) -> None:
    calls: list[int] = []

    def refuse() -> None:
        calls.append(1)
        raise OperationalError("INSERT", None, Exception("read-only"))

    with pytest.raises(OperationalError):
        running.patiently(refuse)
    assert len(calls) == len(patience.WAITS) + 1


@pytest.mark.parametrize("attributes", [{}, {"record": None}, {"record": []}, {"record": {"x": 1}}])
def test_a_trial_without_a_record_crashes_no_reader(
    attributes: dict[str, Any], tmp_path: Path
) -> None:
    from clapp.front.ledger import write_ledger
    from clapp.front.tables import print_front, write_front
    from clapp.report.data import gather
    from clapp.study.display.snapshot import Watcher
    from clapp.study.display.words import describe
    from clapp.study.listing import overview

    bench = Bench(tmp_path, "budget: {trials: 2}\nsampler: evolution")
    for state, values in (
        (TrialState.COMPLETE, [0.1, 9, 9]),
        (TrialState.PRUNED, None),
        (TrialState.FAIL, None),
        (TrialState.RUNNING, None),
    ):
        bench.study.add_trial(
            optuna.trial.create_trial(state=state, values=values, user_attrs=attributes)
        )
    for trial in bench.trials():
        describe(trial)
    write_front(tmp_path, bench.study)
    write_ledger(tmp_path, bench.study)
    print_front(bench.study)
    gather(bench.study, tmp_path)
    overview(bench.study, tmp_path, local=True)
    Watcher(bench.study, 2).look(0.0, None)
    bench.recovery.recover()
    bench.work()
