"""Several machines on one storage: real servers, real processes, workers killed at random."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import optuna
import psycopg
import pytest
from desk import Desk
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from postgres import PASSWORD, QUOTED

from benchmarks import scale
from clapp.errors import ClappError, UserError
from clapp.front.record import RECORD, record_of
from clapp.front.trials import trained
from clapp.study.plan import definition
from clapp.study.plan.existing import load_existing
from clapp.study.plan.plan import Plan, make_plan
from clapp.study.preparing import prepare
from clapp.study.running.job import Job
from clapp.study.running.recovery import Recovery
from clapp.study.running.running_trial import ask
from clapp.study.storage import storage as storages
from clapp.study.storage.proxy import serve
from clapp.study.storage.storage import open_storage

MACHINE = Path(__file__).with_name("machine.py")
TOTAL, KILLS = 50, 6
GRACE = 3
STUDY = """
search_space:
  model.capacity: {type: int, low: 1, high: 60}
  train.learning_rate: {type: float, low: 0.001, high: 0.01, log: true}
baselines: {reference: {}, small: {model.capacity: 2}, smaller: {model.capacity: 1}}
sampler: random
budget: {trials: %d}
"""

SMALL = """
search_space: {model.capacity: {type: int, low: 1, high: 60}}
config:
  train_data: {name: synthetic, resize_base: 32, crop_size: 16, min_buffer: 2, max_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 32, num_images: 2}
  model: {num_layers: 1}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 20, validation_interval: 20}
budget: {trials: 50}
sampler: random
"""

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def plan_of(folder: Path, trials: int) -> Plan:
    (folder / "mine.yaml").write_text(STUDY % trials)
    return make_plan(str(folder / "mine.yaml"))


class Machine:
    """Worker processes with a results folder of their own."""

    def __init__(self, plan: Plan, url: str, folder: Path, workers: int) -> None:
        self.locks = folder / definition.LOCKS
        self.job = Job(
            name=plan.name,
            document=plan.document(),
            storage=url,
            folder=str(folder),
            artifacts=None,
            device=None,
            deadline=None,
            first=0,
            salt=folder.name,
            worker=folder.name,
        )
        self.process = subprocess.Popen(
            [sys.executable, MACHINE, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def begin(self) -> None:
        self.process.stdin.write(json.dumps(asdict(self.job)))
        self.process.stdin.close()

    def workers(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in path.read_text().split()]

    def kill_one(self) -> None:
        workers = self.workers()
        if workers:
            os.kill(random.choice(workers), signal.SIGKILL)

    def kill_all(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def states(trials: list[FrozenTrial]) -> set[TrialState]:
    return {trial.state for trial in trials}


def drive(plan: Plan, url: str, folder: Path, storage: BaseStorage, kills: int) -> None:
    """Run the study on two machines, of which one goes down and the other loses `kills` workers."""
    study = prepare.create_study(plan, storage, folder / "up" / definition.LOCKS)
    up, down = (Machine(plan, url, folder / name, n) for name, n in (("up", 5), ("down", 3)))
    for machine in (up, down):
        assert machine.process.stdout.readline() == "ready\n", machine.process.stderr.read()
    for machine in (up, down):
        machine.begin()
    # As the driver of the first machine does; of the second it sees only the storage.
    recovery = Recovery(study, up.locks, False, plan.file.max_retry)
    deadline = time.monotonic() + 200
    try:
        while up.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            recovery.recover()
            workers = [record_of(t).worker for t in study.trials if trained([t])]
            if kills and len(workers) > 2:
                kills -= 1
                up.kill_one()
            if down.process.poll() is None and any(name.startswith("down") for name in workers):
                down.kill_all()
        assert not kills, "the study ended before all were killed"
        assert up.process.wait(1) == 0, up.process.stderr.read()
        assert down.process.wait(1) == -signal.SIGKILL, down.process.stderr.read()
    finally:
        for machine in (up, down):
            if machine.process.poll() is None:
                machine.kill_all()
            machine.process.stdout.close()
            machine.process.stderr.close()


def check(found: list[FrozenTrial]) -> None:
    assert trained(found) == TOTAL
    assert states(found) <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    assert len({record_of(trial).key for trial in complete}) == TOTAL
    baselines = [record_of(t).baseline for t in complete if record_of(t).baseline is not None]
    assert sorted(baselines) == ["reference", "small", "smaller"]
    assert all(len(trial.params) == 2 for trial in complete)
    machines = {record_of(trial).worker.partition("-")[0] for trial in complete}
    assert machines == {"up", "down"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process takes a worker for dead as soon as those of `machine.py` do."""
    monkeypatch.setattr(storages, "GRACE_SECONDS", GRACE)


@pytest.mark.usefixtures("impatient")
def test_killed_workers_of_several_machines(postgres_url: str, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, trials=TOTAL)
    drive(plan, postgres_url, tmp_path, open_storage(postgres_url), KILLS)
    check(load_existing("mine", tmp_path, postgres_url).get_trials())


def test_drivers_that_start_together_make_one_study(postgres_url: str, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, trials=TOTAL)
    together = threading.Barrier(6)

    def start(number: int) -> int:
        together.wait()
        locks = tmp_path / str(number)  # each on its own machine
        study = prepare.create_study(plan, open_storage(postgres_url), locks)
        return len(study.get_trials())

    with ThreadPoolExecutor(6) as drivers:
        assert list(drivers.map(start, range(6))) == [3] * 6
    study = load_existing("mine", tmp_path, postgres_url)
    assert [record_of(t).baseline for t in study.trials] == ["reference", "small", "smaller"]


def test_a_study_whose_creator_was_killed_is_completed(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, trials=TOTAL)
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "set_metric_names", lambda *_: os.abort)
        patch.setattr(prepare, "_enqueue_baselines", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare.create_study(plan, open_storage(postgres_url), tmp_path)
    monkeypatch.setattr(prepare, "CREATION_SECONDS", 0.2)
    study = prepare.create_study(plan, open_storage(postgres_url), tmp_path)
    assert len(study.trials) == 3
    assert study.user_attrs[definition.DEFINITION] == plan.definition()


def test_who_is_silent_is_dead_whatever_the_clocks_say(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, trials=TOTAL)
    study = prepare.create_study(plan, open_storage(postgres_url), tmp_path)
    killed_as_it_asked = study.ask()  # nobody says who works on it
    silent, lively = ask(study, "far-1-0-a"), ask(study, "far-1-1-b")
    for trial in (silent, lively):
        trial.note(started=time.time() + 3600)  # by that machine's clock
        trial.store()
    monkeypatch.setattr(storages, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(storages, "GRACE_SECONDS", 1.0)
    recovery = Recovery(study, tmp_path, False, plan.file.max_retry)
    recovery.recover()
    assert states(study.trials) == {TrialState.RUNNING}
    with lively.pulse():
        for _ in range(15):
            time.sleep(0.1)
            recovery.recover()
    dead = [killed_as_it_asked.number, silent.number]
    assert [t.number for t in study.trials if t.state == TrialState.FAIL] == dead
    assert [record_of(t).retry_of for t in study.trials if t.state == TrialState.WAITING] == dead


def test_two_processes_may_store_the_same_attribute_at_once(postgres_url: str) -> None:
    study = optuna.create_study(storage=open_storage(postgres_url))
    trial = study.ask()
    together = threading.Barrier(4)

    def store(number: int) -> None:
        own = open_storage(postgres_url)
        together.wait()
        for _ in range(20):
            own.set_trial_user_attr(trial._trial_id, RECORD, {"failed": str(number)})
            own.get_trial(trial._trial_id)

    with ThreadPoolExecutor(4) as processes:
        list(processes.map(store, range(4)))
    assert record_of(study.trials[0]).failed in set("0123")


@contextmanager
def out_of_reach(url: str) -> Iterator[None]:
    """While the block runs, the server of the database at `url` turns everybody away."""
    name = url.rpartition("/")[2]
    server = url.replace("+psycopg", "").removesuffix(name) + "postgres"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        yield
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_server_that_goes_away_is_one_clear_line(postgres_url: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, SMALL)
    process = desk.start("--workers", "2", "--storage", postgres_url)
    deadline = time.monotonic() + 90
    storage, done = open_storage(postgres_url), 0
    while done < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
        done = sum(trained(storage.get_all_trials(s._study_id)) for s in storage.get_all_studies())
    with out_of_reach(postgres_url):
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    last = output.splitlines()[-1]
    assert last.startswith("error: storage postgresql+psycopg://clapp:***@127.0.0.1:")
    assert "does not work any more: " in last
    assert not any(secret in output for secret in (PASSWORD, QUOTED, "Traceback"))
    kept = trained(load_existing("mine", desk.results, postgres_url).get_trials())
    assert kept >= 3
    code, output = desk.run("--workers", "1", "--storage", postgres_url, "--trials", str(kept + 3))
    assert code == 0, output
    trials = load_existing("mine", desk.results, postgres_url).get_trials()
    assert trained(trials) == kept + 3
    assert TrialState.RUNNING not in {trial.state for trial in trials}


def test_the_password_is_in_no_error(postgres_url: str, tmp_path: Path) -> None:
    wrong = postgres_url.replace(QUOTED, "wrong%40word")
    nowhere = postgres_url.rpartition("@")[0] + "@127.0.0.1:1/x"
    for url in (wrong, nowhere, postgres_url + "-not-there"):
        with pytest.raises(UserError) as caught:
            load_existing("mine", tmp_path, url)
        message = str(caught.value)
        assert "cannot be used" in message
        assert not any(secret in message for secret in (PASSWORD, QUOTED, "@word", "%40word"))


SERVE = """
import sys
from clapp.study.storage import proxy
proxy.serve(sys.stdin.readline(), "127.0.0.1", int(sys.argv[1]), 10)
"""


@contextmanager
def proxy(url: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A proxy in front of the database at `url`: its own URL, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process.stdin.write(url)
        process.stdin.close()
        line = process.stderr.readline()
        assert f"is served at grpc://127.0.0.1:{port}" in line, line + process.stderr.read()
        assert QUOTED not in line
        yield f"grpc://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def proxy_url(postgres_url: str) -> Iterator[str]:
    """The URL of a proxy in front of PostgreSQL."""
    with proxy(postgres_url) as (url, _):
        yield url


def test_a_proxy_ends_in_order_when_told_to(postgres_url: str) -> None:
    with proxy(postgres_url) as (_, process):
        process.terminate()
        assert process.wait(timeout=20) == 0
        assert "no longer served" in process.stderr.read()


def test_what_a_proxy_accepted_is_stored(postgres_url: str) -> None:
    with proxy(postgres_url) as (url, process):
        trial = optuna.create_study(storage=open_storage(url)).ask()
        trial.suggest_int("x", 1, 9)
        trial.set_user_attr("a", 1)
        process.kill()
    (found,) = open_storage(postgres_url).get_all_trials(1)
    assert (list(found.params), found.user_attrs) == (["x"], {"a": 1})


@pytest.mark.usefixtures("impatient")
def test_killed_workers_behind_a_proxy(proxy_url: str, postgres_url: str, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, trials=TOTAL)
    drive(plan, proxy_url, tmp_path, open_storage(proxy_url), KILLS)
    check(load_existing("mine", tmp_path, proxy_url).get_trials())
    check(load_existing("mine", tmp_path, postgres_url).get_trials())


def test_nobody_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapp.study.storage.client.CONNECT_SECONDS", 0.2)
    with pytest.raises(
        UserError, match=r"storage grpc://127.0.0.1:1: cannot be used: nobody answers"
    ):
        load_existing("mine", tmp_path, "grpc://127.0.0.1:1")


def test_what_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a file is for one machine"):
        serve(f"sqlite:///{tmp_path}/x.db", "127.0.0.1", 13000, 1)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match="cannot be listened on: Address already in use"),
    ):
        serve("postgresql+psycopg://u@127.0.0.1/d", "127.0.0.1", taken.getsockname()[1], 1)


def test_the_scale_benchmark_counts_what_the_database_did(postgres_url: str) -> None:
    result = scale.run(postgres_url, workers=2, trials=12, sampler="random")
    *tenths, total = result.rows
    assert len(tenths) == scale.TENTHS
    assert total["name"] == "all, 2 workers"
    assert total["asked"] >= 12
    assert total["transactions"] > 3
    assert total["rows_inserted"] > 20  # parameters, attributes, values, the trial itself
    for row in tenths:
        assert 0 < row["read_ms"] + row["write_ms"] + row["sample_ms"] < row["cpu_ms"]
    with pytest.raises(ClappError, match="holds a study named sobel3 already"):
        scale.run(postgres_url, workers=1, trials=12, sampler="random")
