"""`--fresh` on a database server: what other machines are at work on is not taken from them."""

import time
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from test_study_trials import Bench

from clapp.errors import UserError
from clapp.front.record import RECORD, TrialRecord, record_of
from clapp.study.plan.existing import load_existing
from clapp.study.preparing.prepare import set_aside
from clapp.study.storage import storage as storages
from clapp.study.storage.signs import ALIVE
from clapp.study.storage.storage import storage_of


def running(machine: str, age: float) -> FrozenTrial:
    """A trial of a worker elsewhere, which lived `age` seconds ago."""
    record = TrialRecord(worker=f"{machine}-1-0-ab", started=time.time() - age - 5)
    attributes = {RECORD: record.document(), ALIVE: time.time() - age}
    return create_trial(state=TrialState.RUNNING, user_attrs=attributes)


@pytest.fixture
def bench(tmp_path: Path, postgres_url: str) -> Bench:
    return Bench(tmp_path, "budget: {trials: 2}", url=postgres_url)


def test_a_study_that_is_run_elsewhere_stays_where_it_is(bench: Bench) -> None:
    bench.study.add_trial(running("cray", age=1))
    bench.study.add_trial(running("desk-of-ann", age=2))
    with pytest.raises(UserError, match=r"run now on cray, desk-of-ann; .*--fresh --force"):
        set_aside(bench.plan, bench.folder, storage_of(bench.study), force=False)
    assert bench.folder.is_dir()
    assert [one.state for one in bench.trials()[-2:]] == [TrialState.RUNNING] * 2


def test_with_force_it_is_set_aside_and_what_ran_has_failed(bench: Bench, tmp_path: Path) -> None:
    bench.study.add_trial(running("cray", age=1))
    set_aside(bench.plan, bench.folder, storage_of(bench.study), force=True)
    (kept,) = (path.name for path in tmp_path.iterdir() if path.is_dir())
    assert kept.startswith("mine.")
    old = load_existing(kept, tmp_path, bench.url)
    assert record_of(old.trials[-1]).failed == "interrupted: the study was set aside"
    with pytest.raises(UserError, match="no study named 'mine'"):
        load_existing("mine", tmp_path, bench.url)


def test_what_the_dead_left_does_not_hinder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watched for as long as a living worker may be silent, since clocks may be off."""
    monkeypatch.setattr(storages, "HEARTBEAT_SECONDS", 0.5)
    bench.study.add_trial(running("cray", age=500))
    set_aside(bench.plan, bench.folder, storage_of(bench.study), force=False)
    assert not bench.folder.exists()
