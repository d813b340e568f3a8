"""`optimize.py` as a person runs it: real processes, real trainings, interrupted and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from desk import Desk as AnyDesk
from desk import children, command
from optuna.trial import FrozenTrial, TrialState

from clapp.front.record import record_of
from clapp.front.trials import trained
from clapp.study.storage.storage import default_url, open_storage

STUDY = """
search_space:
  model.capacity: {type: int, low: 1, high: 6}
  model.activation: {type: categorical, choices: [abs, gelu, square]}
  train.learning_rate: {type: float, low: 0.002, high: 0.02, log: true}
baselines:
  reference: {train.max_iterations: 20}
config:
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 2}
  train: {batch_size: 2, min_iterations: 1, max_iterations: %d, validation_interval: 20}
budget: {trials: %d}
"""


class Desk(AnyDesk):
    """A folder with the study above, its length to be written first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, STUDY % (20, 1))

    def write(self, iterations: int, trials: int) -> None:
        self.rewrite(STUDY % (iterations, trials))

    def under_way(self) -> list[FrozenTrial]:
        """The trials that were being trained when the study was stopped."""
        states = (TrialState.RUNNING, TrialState.FAIL)
        return [trial for trial in self.trials() if trial.state in states]

    def wait_for(self, number: int, process: "subprocess.Popen[str]") -> None:
        """Wait until `number` trials are trained and another one is under way."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
            if not (self.results / "mine" / "front.json").parent.is_dir():
                continue
            try:
                found = self.trials()
            except Exception:  # the study is just being created
                continue
            if trained(found) >= number and any(t.state == TrialState.RUNNING for t in found):
                return
        process.kill()
        pytest.fail(f"no {number} trials: {process.communicate()[0]}")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_two_workers_reach_the_total_and_a_finished_study_says_so(desk: Desk) -> None:
    desk.write(iterations=20, trials=5)
    code, output = desk.run("--workers", "2")
    assert code == 0, output
    assert trained(desk.trials()) == 5
    assert {record_of(trial).worker.split("-")[-2] for trial in desk.trials()} <= {"0", "1"}
    assert "\x1b" not in output
    assert "trial 0 (reference): loss 0." in output
    assert "clapp export mine --pick knee" in output
    document = json.loads((desk.results / "mine" / "front.json").read_text())
    assert document["counts"]["complete"] == 5
    kept = desk.results / "mine" / "trials" / "00000"
    # Pictures are drawn when somebody looks.
    assert {"model.safetensors", "config.yaml", "curve.json", "result.json"} == {
        path.name for path in kept.iterdir()
    }

    code, output = desk.run()
    assert code == 0
    assert "study mine is finished: all 5 trials are trained" in output
    assert trained(desk.trials()) == 5

    code, output = desk.run("--fresh", "--trials", "1", "--workers", "1")
    assert code == 0, output
    assert trained(desk.trials()) == 1
    (old,) = [path for path in desk.results.iterdir() if path.name != "mine"]
    kept_study = optuna.load_study(study_name="mine", storage=open_storage(default_url(old)))
    assert trained(kept_study.get_trials()) == 5

    code, output = desk.run("--seed", "5")
    assert (code, output.count("\n")) == (2, 1)
    assert output.startswith("error: study mine: seed is not what the study was started with")


def test_interrupted_and_killed_it_goes_on_to_the_exact_total(desk: Desk) -> None:
    desk.write(iterations=250, trials=5)
    process = desk.start("--workers", "2")
    desk.wait_for(1, process)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output
    assert "everything is saved" in output
    assert TrialState.RUNNING not in {trial.state for trial in desk.trials()}
    assert (desk.results / "mine" / "front.csv").is_file()
    interrupted = desk.under_way()
    assert interrupted

    process = desk.start("--workers", "2")
    desk.wait_for(2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed = desk.under_way()
    assert TrialState.RUNNING in {trial.state for trial in killed}

    code, output = desk.run("--workers", "1")
    assert code == 0, output
    found = desk.trials()
    assert trained(found) == 5
    assert TrialState.RUNNING not in {trial.state for trial in found}
    retried = {record_of(trial).retry_of for trial in found}
    # One killed before it had drawn anything has nothing to try again.
    drawn = {trial.number for trial in (*interrupted, *killed) if found[trial.number].params}
    assert drawn
    assert drawn <= retried


def test_workers_end_with_their_driver_and_keep_the_url_to_themselves(desk: Desk) -> None:
    desk.write(iterations=4000, trials=5)
    process = desk.start("--workers", "1")
    desk.wait_for(0, process)
    workers = [pid for pid in children(process.pid) if "clapp.study.running.worker" in command(pid)]
    assert len(workers) == 1
    assert "study.journal" not in command(workers[0])
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and "clapp.study.running.worker" in command(workers[0]):
        time.sleep(0.05)
    assert "clapp.study.running.worker" not in command(workers[0])


def test_a_killed_worker_is_replaced(desk: Desk) -> None:
    desk.write(iterations=250, trials=2)
    process = desk.start("--workers", "1")
    desk.wait_for(0, process)
    (worker,) = [
        pid for pid in children(process.pid) if "clapp.study.running.worker" in command(pid)
    ]
    os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "worker 0 was killed by signal 9; see " in output
    assert trained(desk.trials()) == 2
    assert [record_of(t).retry_of for t in desk.trials() if record_of(t).retry_of is not None] == [
        0
    ]


def test_a_mistake_met_by_the_workers_is_one_line(desk: Desk) -> None:
    desk.write(iterations=20, trials=2)
    code, output = desk.run("--workers", "1", "--set", "train_data.name=folder:/no/such/folder")
    assert code == 2
    assert "/no/such/folder" in output
    assert output.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in output


def test_results_that_cannot_be_written(desk: Desk) -> None:
    desk.write(iterations=20, trials=2)
    desk.results.write_text("a file")
    code, output = desk.run()
    assert (code, output) == (2, "error: results: results cannot be written: File exists\n")


def test_help_is_instant() -> None:
    code = "import sys, clapp.commands.optimize; "
    code += "sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
