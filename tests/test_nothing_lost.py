"""Processes killed at random moments, several drivers at once, full disks and lost databases."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import optuna
import pytest
from desk import Desk, children, command, compile_first
from optuna.trial import FrozenTrial, TrialState

from clapp.config import identity
from clapp.errors import UserError
from clapp.front.record import record_of
from clapp.front.tables import front_document
from clapp.front.trials import is_lost, is_trained, trained
from clapp.study.plan.existing import load_existing
from clapp.study.storage.keep import trial_folder
from clapp.training.folder import CONFIG, CURVE, RESULT, WEIGHTS, load_trained, read_result

STUDY = """
search_space:
  model.capacity: {type: int, low: 1, high: 4}
  train.learning_rate: {type: float, low: 0.002, high: 0.02, log: true}
baselines:
  reference: {model.num_layers: 1}
  small: {model.capacity: 1, model.num_layers: 1}
config:
  train_data: {name: synthetic, resize_base: 32, crop_size: 16, min_buffer: 2, max_buffer: 4,
               buffer_delay: 0.5}
  valid_data: {resize_base: 64, crop_size: 32, num_images: 2}
  model: {num_layers: 1}
  train: {batch_size: 2, min_iterations: 1, max_iterations: %d, validation_interval: 20}
budget: {trials: %d}
max_retry: 2
"""
KILLS = ["worker"] * 10 + ["feeder"] * 6 + ["driver"] * 2 + ["group"] * 2
ENDLESS = 1000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def test_killed_at_random_moments_nothing_is_lost(tmp_path: Path) -> None:
    desk, rng = Desk(tmp_path, STUDY % (40, ENDLESS)), random.Random(5)
    rng.shuffle(KILLS)
    compile_first(tmp_path / "mine.yaml")
    process = desk.start("--workers", "2")
    for what in KILLS:
        process = _kill_one(what, desk, process, rng)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    total = trained(desk.trials()) + 3
    code, output = desk.run("--workers", "2", "--trials", str(total))
    assert code == 0, output
    _assert_whole(desk, total)
    assert any(record_of(trial).retry_of is not None for trial in desk.trials())


def _kill_one(
    what: str, desk: Desk, process: "subprocess.Popen[str]", rng: random.Random
) -> "subprocess.Popen[str]":
    """Kill one process of a kind at a random moment; returns the driver that runs afterwards."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:  # killed, or it gave up after too many deaths in a row
            process.communicate()
            process = desk.start("--workers", "2")
        time.sleep(rng.uniform(0.1, 0.8))
        if what != "worker" and not _under_way(desk):
            continue
        if what in ("driver", "group"):
            (process.kill if what == "driver" else partial(os.killpg, process.pid, 9))()
            process.wait()
            return process
        found = _processes(what, process.pid)
        if found:
            os.kill(rng.choice(found), signal.SIGKILL)
            return process
    raise AssertionError(f"no {what} to kill: {process.poll()}")


def _under_way(desk: Desk) -> bool:
    try:
        return any(trial.state == TrialState.RUNNING for trial in desk.trials())
    except UserError:  # the study is just being created
        return False


def _processes(what: str, driver: int) -> list[int]:
    if what == "worker":
        return [pid for pid in children(driver) if "clapp.study.running.worker" in command(pid)]
    # A feeder outlives the worker that started it; its folder tells that it is this session's.
    ours = f"clapp.pool.feeder {os.environ['CLAPP_CACHE']}/"
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if ours in command(pid)]


def _assert_whole(desk: Desk, total: int) -> None:
    """Exactly `total` different trials count, each is there as a whole, and none hangs."""
    found = desk.trials()
    counted = [trial for trial in found if is_trained(trial)]
    assert len(counted) == total
    assert TrialState.RUNNING not in {trial.state for trial in found}
    assert len({record_of(trial).key for trial in counted}) == total
    for trial in counted:
        folder = trial_folder(desk.study, trial.number)
        assert {path.name for path in folder.iterdir()} >= {CONFIG, CURVE, RESULT, WEIGHTS}
        assert read_result(folder)["loss"] == record_of(trial).loss == trial.values[0]
        _, config = load_trained(folder)
        assert identity(config) == record_of(trial).key
    _assert_tried_again(found)
    document = json.loads((desk.study / "front.json").read_text())
    assert document == front_document(load_existing("mine", desk.results))
    assert document["counts"]["complete"] == total


def _assert_tried_again(found: list[FrozenTrial]) -> None:
    """Each lost configuration has one successor, and none more than `max_retry` after kills."""
    successors = Counter(record_of(trial).retry_of for trial in found)
    del successors[None]
    for trial in found:
        to_try = trial.params or record_of(trial).baseline is not None
        assert successors[trial.number] == bool(is_lost(trial) and to_try), trial
        chain = [trial]
        while record_of(chain[-1]).retry_of is not None:
            chain.append(found[record_of(chain[-1]).retry_of])
            assert chain[-1].params.items() <= trial.params.items() or not trial.params
        killed = ["was killed" in str(record_of(one).failed) for one in chain]
        assert sum(killed) <= 3
        assert record_of(trial).attempt == 1 + sum(killed[1:])


def test_drivers_that_start_at_once_share_a_new_study(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STUDY % (20, 8))
    drivers = [desk.start("--workers", "1") for _ in range(5)]
    ends = [(driver.communicate(timeout=240)[0], driver.returncode) for driver in drivers]
    assert [code for _, code in ends] == [0] * 5, ends
    _assert_whole(desk, 8)
    baselines = [record_of(t).baseline for t in desk.trials() if record_of(t).baseline is not None]
    assert sorted(baselines) == ["reference", "small"]


def test_told_to_terminate_it_ends_like_interrupted(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STUDY % (100_000, 3))
    process = desk.start("--workers", "1")
    deadline = time.monotonic() + 60
    while not _under_way(desk) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()  # the driver alone, as a service manager does
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "everything is saved" in output
    (first, *rest) = desk.trials()
    assert record_of(first).failed == "interrupted: stopped by the user"
    assert [t.state for t in rest if record_of(t).retry_of == 0] == [TrialState.WAITING]


def test_a_deleted_database_is_missed_at_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STUDY % (20, ENDLESS))
    process = desk.start("--workers", "1")
    _wait_for_trained(desk, 2)
    (desk.study / "study.journal").rename(tmp_path / "study.journal")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "study.journal: does not work any more: it was deleted while it was in use" in output
    (tmp_path / "study.journal").rename(desk.study / "study.journal")
    total = trained(desk.trials()) + 1
    code, output = desk.run("--workers", "1", "--trials", str(total))
    assert code == 0, output
    _assert_whole(desk, total)


def test_a_broken_database_is_one_clear_line(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STUDY % (20, ENDLESS))
    process = desk.start("--workers", "1")
    _wait_for_trained(desk, 1)
    path = desk.study / "study.journal"
    with path.open("r+b") as file:
        file.write(random.Random(0).randbytes(path.stat().st_size))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    last = output.splitlines()[-1]
    assert last.startswith("error: storage journal://")
    assert "does not work any more: " in last
    assert "Traceback" not in output


def test_a_full_disk_ends_the_study_and_room_lets_it_go_on(tmp_path: Path) -> None:
    """Files may have 700 KB at most: like a full disk, the journal cannot grow."""
    desk = Desk(tmp_path, STUDY % (20, ENDLESS))
    code, output = desk.run("--workers", "1", limit=700_000)
    assert code == 2
    assert "does not work any more: " in output.splitlines()[-1]
    total = trained(desk.trials()) + 1
    assert total > 2
    code, output = desk.run("--workers", "1", "--trials", str(total))
    assert code == 0, output
    _assert_whole(desk, total)


def _wait_for_trained(desk: Desk, number: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        time.sleep(0.1)
        if _under_way(desk) and trained(desk.trials()) >= number:
            return
    raise AssertionError(f"no {number} trials")
