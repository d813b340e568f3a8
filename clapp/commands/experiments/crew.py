"""Runs trained one after another, or by several processes at once; finished ones are left alone.

A training of a small network uses one core, so several at once are faster on a processor. On a
graphics card, and for one run, this process trains by itself.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from clapp.commands.experiments.runs import Run, do
from clapp.errors import ClappError, UserError
from clapp.system.process import cores, prepare_process, spawn
from clapp.system.progress import tell

if TYPE_CHECKING:
    from clapp.commands.experiments.runs import Train
    from clapp.config import Config

    Source = Callable[[], Run | None]

ATTEMPTS = 2
"""How often a run is tried whose process was killed."""
WAIT_SECONDS = 0.2


def processes_for(config: "Config", wanted: int | None, runs: int) -> int:
    """How many processes train: `wanted`, or one for each core where they train on processors."""
    from clapp.training.device import resolve_device

    if wanted is None:
        wanted = cores() if resolve_device(config.train.device).type == "cpu" else 1
    return max(1, min(wanted, runs))


def train_runs(
    source: "Source",
    done: Callable[[Run], None],
    processes: int,
    logs: Path,
    train: "Train | None" = None,
) -> None:
    """Train what `source` gives until it gives None; runs that are finished are only reported.

    Args:
        source: asked whenever a process is free; never by two threads at once.
        done: told of each run that is finished; not by two threads at once either.
        processes: how many of them; 1: this one.
        logs: folder for what the processes write to standard error.
        train: used instead of `clapp.training.trainer.train`, in this process.

    Raises:
        UserError: no run can be trained or saved.
        ClappError: a process was killed twice with the same run.
    """
    if processes == 1 or train is not None:
        prepare_process(threads=1)
        while (run := source()) is not None:
            if not run.is_finished:
                do(run, train)
            done(run)
        return
    crew = _Crew(source, done, logs)
    crew.go(processes)


def train_all(
    runs: Sequence[Run],
    config: "Config",
    processes: int | None,
    logs: Path,
    train: "Train | None" = None,
    name: str = "",
) -> None:
    """Train what of `runs` is not finished, and tell how far that is.

    Args:
        config: of one of them, for `processes_for`.
        name: what to call them, in front of their number.
    """
    left = [run for run in runs if not run.is_finished]
    finished = len(runs) - len(left)
    shown = f"{name}: " if name else ""

    def done(_: Run) -> None:
        nonlocal finished
        finished += 1
        tell(f"{shown}{finished} of {len(runs)} trainings")

    tell(f"{shown}{finished} of {len(runs)} trainings")
    following = iter(left)
    number = processes_for(config, processes, len(left))
    train_runs(lambda: next(following, None), done, number, logs, train)


class _Crew:
    def __init__(self, source: "Source", done: Callable[[Run], None], logs: Path) -> None:
        self._source, self._done, self._logs = source, done, logs
        self._lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._error: BaseException | None = None

    def go(self, number: int) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        threads = [threading.Thread(target=self._serve, args=(index,)) for index in range(number)]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(WAIT_SECONDS)
                if self._error is not None:
                    self._kill()
        except BaseException as error:
            self._error = self._error or error
            self._kill()
            for thread in threads:
                thread.join()
            raise
        if self._error is not None:
            raise self._error

    def _kill(self) -> None:
        for process in [*self._processes.values()]:
            process.kill()

    def _serve(self, index: int) -> None:
        try:
            while (run := self._next()) is not None:
                if not run.is_finished:
                    self._train(index, run)
                with self._lock:
                    if self._error is None:
                        self._done(run)
        except BaseException as error:  # the main thread raises it
            self._error = self._error or error
        finally:
            process = self._processes.pop(index, None)
            if process is not None:
                _close(process)

    def _next(self) -> Run | None:
        with self._lock:
            return None if self._error is not None else self._source()

    def _train(self, index: int, run: Run) -> None:
        for _ in range(ATTEMPTS):
            process = self._processes.get(index) or self._spawn(index)
            answer = _ask(process, run)
            if answer is not None:
                if "error" in answer:
                    kind = UserError if answer["user"] else ClappError
                    raise kind(str(answer["error"]))
                return
            del self._processes[index]
            _close(process)
            if self._error is not None:
                raise self._error
        raise ClappError(
            f"{run.folder}: its process ended twice, the last time with code {process.returncode}; "
            f"see {self._log(index)}"
        )

    def _log(self, index: int) -> Path:
        return self._logs / f"process-{index}.log"

    def _spawn(self, index: int) -> "subprocess.Popen[str]":
        module = "clapp.commands.experiments.worker"
        process = spawn(module, self._log(index), OMP_NUM_THREADS="1")
        self._processes[index] = process
        return process


def _ask(process: "subprocess.Popen[str]", run: Run) -> dict[str, object] | None:
    """The answer to a run; None: the process died."""
    assert process.stdin is not None  # Popen was given PIPE
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(asdict(run)) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    line = process.stdout.readline()
    if not line.endswith("\n"):
        return None
    answer: dict[str, object] = json.loads(line)
    return answer


def _close(process: "subprocess.Popen[str]") -> None:
    """Let a process end, and wait for it."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it is dead already
        process.stdin.close()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
