"""What is stored of a trial: the same in every time zone."""

import time
from collections.abc import Iterator

import pytest
from optuna.trial import create_trial

from clapp.front.record import RECORD, TrialRecord, ended, started


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/St_Johns"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_zone")
def test_a_moment_is_the_same_on_machines_of_all_time_zones() -> None:
    record = TrialRecord(started=1_780_000_000.0, ended=1_780_000_060.5)
    trial = create_trial(values=[0.1], user_attrs={RECORD: record.document()})
    begin, end = started(trial), ended(trial)
    assert begin is not None
    assert end is not None
    assert (begin.timestamp(), end.timestamp()) == (1_780_000_000.0, 1_780_000_060.5)
    assert begin.utcoffset() is not None
    assert (end - begin).total_seconds() == 60.5
