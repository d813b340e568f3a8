"""The worker processes of a driver: started, listened to, replaced when killed, stopped."""

import json
import math
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from clapp.front.objectives import amount
from clapp.study.running.job import Job
from clapp.system.process import spawn

STOP_SECONDS = 2.0
"""Seconds that a worker has to save its work after it was asked to stop."""
HANG_SECONDS = 120.0
"""Seconds beyond its limit that a trial has to load pictures, validate and be saved."""

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # oneDNN caches 1024 compiled convolutions by default, of networks that are never used again.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
}


@dataclass
class Worker:
    """One worker process and its state."""

    index: int
    name: str
    process: subprocess.Popen[str]
    status: str = "starting: loading PyTorch"
    heard: float = field(default_factory=time.monotonic)
    """Time of its last event."""
    limit: float | None = None
    """Time limit of its trial in seconds."""
    due: float = math.inf
    """Time on the monotonic clock at which its trial counts as hung."""
    ended: bool = False
    """Whether it sent the reason of its end, and so ended normally."""
    listener: threading.Thread = field(default_factory=threading.Thread)

    def describe(self) -> str:
        """The worker's activity, with its duration if that is long."""
        silent = time.monotonic() - self.heard
        return f"worker {self.index}: {self.status}" + (f", {silent:.0f} s" if silent >= 2 else "")


@dataclass
class Crew:
    """The workers of one run.

    Attributes:
        template: the job; each worker gets a copy with its own index and name.
        logs: folder for the workers' standard error.
        patience: how many workers may die without a trial being finished in between, before dead
            workers are no longer replaced.
    """

    template: Job
    logs: Path
    patience: int
    workers: list[Worker] = field(default_factory=list)
    _events: "SimpleQueue[tuple[Worker, dict[str, Any]]]" = field(default_factory=SimpleQueue)
    _crashes: int = 0

    def start(self, number: int) -> None:
        """Start `number` workers."""
        self.logs.mkdir(exist_ok=True)
        self.workers = [self._spawn(index) for index in range(number)]

    def _spawn(self, index: int) -> Worker:
        name = f"{socket.gethostname()}-{os.getpid()}-{index}-{secrets.token_hex(3)}"
        log = self.logs / f"worker-{index}.log"
        process = spawn("clapp.study.running.worker", log, **_ENVIRONMENT)
        worker = Worker(index, name, process)
        # By pipe: the storage's URL may hold a password, and arguments are visible to all users.
        job = replace(self.template, index=index, worker=name)
        try:
            _pipe(process.stdin).write(json.dumps(asdict(job)) + "\n")
            _pipe(process.stdin).flush()
        except BrokenPipeError:
            pass  # it is dead already; `replace_killed` handles that
        worker.listener = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        worker.listener.start()
        return worker

    def _listen(self, worker: Worker) -> None:
        for line in _pipe(worker.process.stdout):
            if line.endswith("\n"):  # an incomplete line: it was killed while writing
                event = json.loads(line)
                worker.ended |= event["event"] in ("end", "error")
                self._events.put((worker, event))

    def events(self, wait: float) -> Iterator[dict[str, Any]]:
        """The workers' events since the last call; waits up to `wait` seconds for the first one."""
        deadline = time.monotonic() + wait
        while True:
            try:
                worker, event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                return
            deadline = 0.0
            self._note(worker, event)
            yield event

    def _note(self, worker: Worker, event: dict[str, Any]) -> None:
        worker.heard = time.monotonic()
        match event["event"]:
            case "ready":
                worker.status = "ready"
            case "trial":
                worker.status = f"trial {event['number']}: preparing"
                worker.limit = event["limit"]
                if worker.limit is not None:
                    worker.due = time.monotonic() + worker.limit + HANG_SECONDS
            case "doing":
                worker.status = event["text"]
            case "progress":
                worker.status = f"trial {event['number']}: step {event['step']}"
                if event["l2"] is not None:
                    worker.status += f", {amount('loss', event['l2'])}"
            case "end" | "error":
                worker.status = "ended"

    def alive(self) -> bool:
        """Whether any worker still runs."""
        return any(worker.process.poll() is None for worker in self.workers)

    def at_work(self) -> bool:
        """Whether any worker runs, or was killed and may be replaced."""
        return any(w.process.poll() is None or not w.ended for w in self.workers)

    def overdue(self) -> list[Worker]:
        """Workers whose trial has exceeded its time limit by far; each is returned once."""
        now = time.monotonic()
        late = [worker for worker in self.workers if worker.due < now]
        for worker in late:
            worker.due = math.inf
        return late

    def finished_a_trial(self) -> None:
        """Reset the count of deaths, since the study makes progress."""
        self._crashes = 0

    def replace_killed(self) -> list[str]:
        """Start a worker for each one that was killed; returns a message for each."""
        messages = []
        for position, worker in enumerate(self.workers):
            code = worker.process.poll()
            if code is None or worker.listener.is_alive() or worker.ended:
                continue
            worker.ended, worker.status = True, "killed"
            self._crashes += 1
            log = self.logs / f"worker-{worker.index}.log"
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            messages.append(f"worker {worker.index} {how}; see {log}")
            if self._crashes <= self.patience:
                self.workers[position] = self._spawn(worker.index)
        return messages

    def stop(self) -> None:
        """Ask all workers to stop; kill those that still run after a grace period."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.terminate()
        self.wait(STOP_SECONDS)
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()

    def wait(self, timeout: float) -> None:
        """Wait until all workers have ended, at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)


def _pipe(stream: Any) -> Any:
    assert stream is not None  # Popen was given PIPE
    return stream
