"""What goes wrong in a trial, and what that means for the study."""

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from desk import Desk, compile_first
from optuna.trial import TrialState
from test_study_trials import Bench, result
from test_study_trials import train as fine

from clapp.errors import ClappError, FeederError, UserError
from clapp.front.record import record_of
from clapp.front.trials import trained
from clapp.study.running.failures import is_out_of_memory, writing_results

HANGS = '''
import ctypes
import sys
from pathlib import Path

def once(image):
    """Hangs in C, where no signal handler runs, the first time that it sees a training crop."""
    here = Path(__file__).parent / "hung"
    if "clapp.study.running.worker" in sys.orig_argv and image.shape[0] == 16 and not here.exists():
        here.touch()
        ctypes.CDLL(None).sleep(3600)
    return image[..., 0]
'''
IMPATIENT = """
from clapp.commands import optimize
from clapp.study.running import crew

crew.HANG_SECONDS = 15.0
optimize.main()
"""
STUDY = """
search_space: {model.capacity: {type: int, low: 1, high: 2}}
config:
  train_data: {resize_base: 64, crop_size: 16, min_buffer: 4, target_filter: "hangs:once"}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 2}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 20, max_seconds: 2}
baselines: {}
budget: {trials: 1}
"""


@pytest.fixture(autouse=True)
def _keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapp.study.running.objective.keep", lambda *_: None)


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(10**15), lambda: np.ones(10**15), lambda: bytearray(10**15)]
)
def test_real_allocations_that_fail_are_known(allocate: Callable[[], Any]) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_too_large_ones_in_a_row_do_not_end_the_study(tmp_path: Path) -> None:
    calls = iter(range(100))

    def large(config: Any, report: Any, _weights: Any = None) -> Any:
        if next(calls) < 8:
            torch.empty(10**15)
        return fine(config, report)

    bench = Bench(tmp_path, "budget: {trials: 1}")
    assert bench.work(large) == "the budget is spent"
    reasons = [record_of(trial).failed or "" for trial in bench.trials()]
    assert [reason.startswith("out of memory: ") for reason in reasons] == [True] * 8 + [False]


def test_a_machine_without_any_memory_ends_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clapp.study.running.worker.TOO_LARGE_IN_A_ROW", 7)

    def large(config: Any, report: Any, _weights: Any = None) -> Any:
        raise MemoryError

    bench = Bench(tmp_path, "")
    with pytest.raises(ClappError, match="7 trials in a row failed, the last with: out of memory"):
        bench.work(large)
    assert len(bench.trials()) == 7


def test_no_pictures_are_not_the_trials_fault(tmp_path: Path) -> None:
    def starved(config: Any, report: Any, _weights: Any = None) -> Any:
        raise FeederError("photos: the process that loads the pictures died twice")

    bench = Bench(tmp_path, "")
    with pytest.raises(FeederError, match="died twice"):
        bench.work(starved)
    bench.recovery.recover()
    lost, again = bench.trials()
    assert record_of(lost).failed.startswith("interrupted: photos: the process that loads")
    assert (again.state, record_of(again).retry_of) == (TrialState.WAITING, 0)
    assert record_of(again).attempt == 1  # it was not killed


@pytest.mark.parametrize("where", ["training", "keeping"])
def test_a_full_disk_is_not_the_trials_fault(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        Path("/dev/full").write_text("x")

    if where == "keeping":
        monkeypatch.setattr("clapp.study.running.objective.keep", full)
    bench = Bench(tmp_path, "budget: {trials: 1}")
    with pytest.raises(UserError, match=r"No space left on device.*the same command goes on"):
        bench.work(full if where == "training" else lambda *_: result())
    monkeypatch.setattr("clapp.study.running.objective.keep", lambda *_: None)
    bench.recovery.recover()
    bench.work()
    assert [trial.state for trial in bench.trials()] == [TrialState.FAIL, TrialState.COMPLETE]
    assert record_of(bench.trials()[1]).retry_of == 0


def test_results_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"results cannot be written: No space left on device; what"),
        writing_results(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_two_drivers_enqueued_is_tried_once(tmp_path: Path) -> None:
    outcomes = iter([result(float("nan"), "nan"), result()])
    bench = Bench(tmp_path, "budget: {trials: 1}")
    bench.study.enqueue_trial({}, user_attrs={"baseline": "reference"})
    bench.work(lambda *_: next(outcomes))
    assert [trial.state for trial in bench.trials()] == [
        TrialState.FAIL,
        TrialState.PRUNED,
        TrialState.COMPLETE,
    ]
    assert record_of(bench.trials()[1]).duplicate_of == 0


def test_a_training_that_hangs_is_killed_and_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "hangs.py"
    module.write_text("def once(image): return image[..., 0]")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    desk = Desk(tmp_path, STUDY)
    compile_first(tmp_path / "mine.yaml")
    module.write_text(HANGS)
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT, "--study", "mine.yaml", "--workers", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = desk.trials()[:2]
    assert record_of(first).failed == "hung: not ended 15 s after its limit of 2 s"
    assert second.state == TrialState.COMPLETE
    assert trained(desk.trials()) == 1
