"""A study's journal: where it lies, who writes it, and what happens when a writer dies."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from clapp.errors import UserError
from clapp.study.plan.existing import load_existing
from clapp.study.storage.journal import open_journal
from clapp.study.storage.place import FILES, JOURNAL, SQLITE, study_file, study_files
from clapp.study.storage.storage import default_url, file_url, open_storage

ODD = ["why?", "a%41b", "set #2", "a&b=c", "net[v2]", "ü ñ", "x;y", "a:b@c", "'quoted\"", "e\nd"]
ONE = [StudyDirection.MINIMIZE]

WRITER = """
import sys
from pathlib import Path
from optuna.trial import TrialState, create_trial
from clapp.study.storage.journal import open_journal

storage = open_journal(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    made = create_trial(
        state=TrialState.RUNNING,
        user_attrs={"writer": sys.argv[3], "number": number, "filling": "x" * 200_000},
    )
    trial = storage.create_new_trial(0, made)
    storage.set_trial_state_values(trial, TrialState.COMPLETE, [number])
    print(number, flush=True)
"""
HOLDER = """
import sys, time
from pathlib import Path
from clapp.study.storage import journal

def hold(file):
    print("held", flush=True)
    time.sleep(600)

journal._cut_half_line = hold
journal.open_journal(Path(sys.argv[1])).create_new_trial(0)
"""


def process(code: str, *arguments: Any) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "study.journal"
    open_journal(path).create_new_study(ONE, "edges")
    return path


@pytest.mark.parametrize("name", ODD)
def test_names_with_characters_that_mean_something_in_a_url(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    open_storage(default_url(folder)).create_new_study(ONE, "edges")
    assert [path.name for path in folder.iterdir()] == ["study.journal"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    again = open_storage(default_url(folder), create=False)
    assert [study.study_name for study in again.get_all_studies()] == ["edges"]


def test_a_study_of_before_stays_in_its_database(tmp_path: Path) -> None:
    for kind in (SQLITE, JOURNAL):
        folder = tmp_path / kind
        folder.mkdir()
        assert study_file(folder) is None
        file = folder / FILES[kind]
        open_storage(file_url(kind, file)).create_new_study(ONE, "edges")
        assert study_file(folder) == file
        assert default_url(folder) == file_url(kind, file)
    (tmp_path / "empty").mkdir()
    found = [file.name for file in study_files(tmp_path)]
    assert found == ["study.journal", "study.db"]


def test_many_writers_lose_nothing_and_a_killed_one_what_it_had_not_written(path: Path) -> None:
    writers = [process(WRITER, path, 12, name) for name in "abcd"]
    with process(WRITER, path, 10_000, "victim") as victim:
        assert victim.stdout is not None
        told = [victim.stdout.readline() for _ in range(5)]
        victim.kill()
        told += victim.stdout.readlines()
    assert victim.returncode == -signal.SIGKILL
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    trials = open_journal(path).get_all_trials(0)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    for name in "abcd":
        own = [t.user_attrs["number"] for t in trials if t.user_attrs["writer"] == name]
        assert own == list(range(12))
    complete = [
        trial.user_attrs["number"]
        for trial in trials
        if trial.user_attrs["writer"] == "victim" and trial.state == TrialState.COMPLETE
    ]
    assert len(complete) >= sum(line.endswith("\n") for line in told)
    assert complete == list(range(len(complete)))


@pytest.mark.parametrize("size", [1, 70_000, 200_000])
def test_half_a_line_of_a_killed_writer_goes_before_the_next(path: Path, size: int) -> None:
    storage, whole = open_journal(path), path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"' + b"x" * size)
    assert [study.study_name for study in open_journal(path).get_all_studies()] == ["edges"]
    storage.create_new_trial(0)
    assert path.read_bytes().startswith(whole + b'{"op_code":')
    for line in path.read_bytes().splitlines():
        json.loads(line)
    assert len(open_journal(path).get_all_trials(0)) == 1


def test_a_lock_ends_with_its_process(path: Path) -> None:
    with process(HOLDER, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with process(WRITER, path, 1, "waits") as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(8)
            holder.kill()
            assert waiting.wait(60) == 0


def test_a_write_that_the_disk_refused_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, before = open_journal(path), path.read_bytes()
    with monkeypatch.context() as patch:

        def full(_file: int) -> None:
            os.truncate(path, path.stat().st_size - 5)  # the disk got as far as that
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageInternalError, match=r"^No space left on device"):
            storage.create_new_trial(0)
    assert storage.get_all_trials(0) == []
    storage.create_new_trial(0)
    assert path.read_bytes().startswith(before + b'{"op_code":')
    assert [trial.number for trial in open_journal(path).get_all_trials(0)] == [0]


def written_over(path: Path) -> None:
    path.write_bytes(b"\x00" * path.stat().st_size)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (Path.unlink, "it was deleted while it was in use; put it back"),
        (written_over, "its first line is none of a journal"),
    ],
)
def test_a_journal_that_is_gone_or_another_file_is_not_written_to(
    path: Path, harm: Callable[[Path], None], reason: str
) -> None:
    storage = open_journal(path)
    harm(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(StorageInternalError, match=reason):
        storage.create_new_trial(0)
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    path.write_text("hello\n" * 1000)
    url = file_url(JOURNAL, path)
    with pytest.raises(UserError, match="cannot be used: it is no journal of Optuna"):
        open_storage(url)
    path.unlink()
    with pytest.raises(UserError, match="there is no such file"):
        open_storage(url, create=False)
    assert not path.exists()
    with pytest.raises(UserError, match="the folder /nowhere does not exist"):
        open_storage("journal:////nowhere/study.journal")


@pytest.mark.parametrize("kind", [JOURNAL, SQLITE])
def test_a_study_in_memory_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="in memory cannot be shared"):
        load_existing("edges", tmp_path, f"{kind}://")


def test_only_one_process_takes_a_waiting_trial_and_finished_ones_stay(path: Path) -> None:
    one, other = open_journal(path), open_journal(path)
    trial = one.create_new_trial(0, create_trial(state=TrialState.WAITING))
    assert other.set_trial_state_values(trial, TrialState.RUNNING)
    assert not one.set_trial_state_values(trial, TrialState.RUNNING)
    assert other.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    with pytest.raises(UpdateFinishedTrialError):
        one.set_trial_user_attr(trial, "late", 1)
    assert one.get_trial(trial).values == [1.0]
