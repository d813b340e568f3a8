"""The driver: prepares a study, starts its workers, shows their progress, and stops them.

It never imports torch, so it starts quickly. The workers train the trials.
"""

import multiprocessing
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from clapp.errors import ClappError, UserError
from clapp.front.ledger import write_ledger
from clapp.front.tables import print_front, write_front
from clapp.front.trials import trained
from clapp.study.dashboard.artifacts import check_artifacts, share_front
from clapp.study.display.live import View, make_view
from clapp.study.display.snapshot import Snapshot, Watcher
from clapp.study.plan import definition
from clapp.study.plan.existing import where
from clapp.study.plan.plan import Plan
from clapp.study.preparing import prepare
from clapp.study.running.crew import Crew
from clapp.study.running.failures import writing_results
from clapp.study.running.job import Job
from clapp.study.running.recovery import Recovery
from clapp.study.sampling.reach import check_reach
from clapp.study.storage import liveness
from clapp.study.storage.place import WatchedFile, is_local
from clapp.study.storage.redaction import redact
from clapp.study.storage.storage import (
    default_url,
    file_of,
    open_storage,
    storage_errors,
    storage_lost,
)
from clapp.system.console import INTERRUPTED, status
from clapp.system.process import cores
from clapp.system.progress import tell
from clapp.training.trackers import check_trackers

if TYPE_CHECKING:
    from optuna import Study

SHOW_SECONDS = 1.0
POLL_SECONDS = 5.0
"""Seconds between two reads of the storage while our workers send nothing; others may write."""
RECOVER_SECONDS = 3.0
ELAPSED_SECONDS = 10.0
DEADLINE_GRACE = 10.0
"""Seconds after the end of the study's time at which a worker that still runs is killed."""


@dataclass(frozen=True)
class Options:
    """Options of a run; they do not change the definition of the study."""

    results: Path
    storage: str | None = None
    workers: int | None = None
    device: str | None = None
    artifacts: str | None = None
    fresh: bool = False
    force: bool = False
    """With `fresh`: set the study aside even while other machines run it."""
    accept_filter_change: bool = False
    log: tuple[str, ...] = ()
    """Trackers, see `clapp.training.trackers`."""

    def where(self) -> str:
        """The options by which other commands find the study, without a password."""
        return where(self.results, self.storage)


def run_study(plan: Plan, options: Options, view: View | None = None) -> int:
    """Run or continue `plan` until its budget is spent.

    Args:
        view: where progress is shown; None: standard output.

    Returns:
        The exit code: 0 finished, 130 interrupted with everything saved.

    Raises:
        UserError: the study cannot be run with these options.
        ClappError: too many trainings failed in a row.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_trackers(options.log)
    with status("preparing the study"):
        run = _prepare(plan, options)
    try:
        with storage_lost(run.url):
            return run.go(view or make_view(plan.name))
    finally:
        run.close()


def _prepare(plan: Plan, options: Options) -> "Run":
    """Create or open the study in the storage; returns its run."""
    tell("looking for the pictures")
    check_reach(plan)
    prepare.check_sources(plan)
    tell("opening the storage")
    folder = options.results / plan.name
    url = options.storage or default_url(folder)
    prepare.check_name(plan.name, options.results)
    prepare.make_folder(options.results)
    if options.fresh:
        storage = open_storage(url) if options.storage else None
        with storage_errors(url):
            prepare.set_aside(plan, folder, storage, force=options.force)
    prepare.make_folder(folder)
    check_artifacts(options.artifacts, folder)
    with storage_errors(url):
        storage = open_storage(url)
        study = prepare.create_study(
            plan,
            storage,
            folder / definition.LOCKS,
            options.accept_filter_change,
            options.results,
        )
        return Run(plan, options, study, folder, url)


class Run:
    """One run of a study by this process and its workers."""

    def __init__(
        self,
        plan: Plan,
        options: Options,
        study: "Study",
        folder: Path,
        url: str,
    ) -> None:
        self._plan, self._study, self._folder, self.url = plan, study, folder, url
        self._options = options
        self._workers = options.workers or cores()
        self._file = WatchedFile(file_of(url))
        local, locks = is_local(url), folder / definition.LOCKS
        self._recovery = Recovery(study, locks, local, plan.file.max_retry)
        self._recovery.recover(failed_baselines=True)
        seat, self._seat = liveness.take_seat(locks)
        self._started = time.monotonic()
        self._elapsed_before: float = study.user_attrs.get(definition.ELAPSED, 0.0)
        self._artifacts = options.artifacts
        self._watcher = Watcher(study, plan.file.budget.trials)
        self._stopping = False
        self._next_poll = 0.0
        self._announcements = {
            "ready": "first worker is ready",
            "trial": "first trial is being prepared",
            "progress": "training has started",
        }
        self._reasons: list[str] = []
        self._error: ClappError | None = None
        left = self._seconds_left()
        job = Job(
            name=plan.name,
            document=plan.document(),
            storage=url,
            folder=str(folder),
            artifacts=options.artifacts,
            device=options.device,
            deadline=None if left is None else time.time() + left,
            first=self._watcher.first,
            salt="" if local and not seat else f"{socket.gethostname()}-{seat}",
            log=options.log,
        )
        # Allow enough deaths that a configuration that kills its workers is given up before the
        # study.
        patience = self._workers * (plan.file.max_retry + 2)
        self._crew = Crew(job, folder / "logs", patience)

    def close(self) -> None:
        """Release this driver's number among the drivers of the study."""
        os.close(self._seat)

    def go(self, view: View) -> int:
        """Run to the end; returns the exit code."""
        total = self._plan.file.budget.trials
        left = self._seconds_left()
        before = self._watcher.trained_before
        if before >= total or (left is not None and left <= 0):
            return self._nothing_to_do(view, before >= total)
        view.message(
            f"{self._plan.name}: {before} of {total} trials trained; storage {redact(self.url)}"
        )
        view.message(f"starting {self._workers} worker{'s' * (self._workers > 1)}")
        handlers = {s: signal.signal(s, self._interrupted) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            with view:
                try:
                    self._crew.start(self._workers)
                    self._follow(view)
                finally:
                    with view.doing("stopping the workers and saving"):
                        self._end()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self._conclude(view)

    def _interrupted(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _follow(self, view: View) -> None:
        """Show events until the workers have ended or the user interrupts."""
        next_look = next_recovery = next_elapsed = 0.0
        while not self._stopping and self._crew.at_work():
            self._listen(view, wait=0.1)
            for worker in self._crew.overdue():
                self._recovery.hung(worker)
            for message in self._crew.replace_killed():
                view.message(message)
            now = time.monotonic()
            with view.doing("waiting for the storage"):
                if now >= next_recovery:
                    next_recovery = now + RECOVER_SECONDS
                    self._recovery.recover()
                if now >= next_look:
                    next_look = now + SHOW_SECONDS
                    self._file.check()
                    view.update(self._look())
                if now >= next_elapsed:
                    next_elapsed = now + ELAPSED_SECONDS
                    self._save_elapsed()
            left = self._seconds_left()
            if left is not None and left < -DEADLINE_GRACE:
                self._reasons.append("the study's time is over")
                break
        self._listen(view, wait=0.0)
        self._next_poll = 0.0
        view.update(self._look())

    def _listen(self, view: View, wait: float) -> None:
        for event in self._crew.events(wait):
            if event["event"] not in ("progress", "doing"):
                self._next_poll = 0.0  # a new trial has begun, so another one may have ended
            if event["event"] in self._announcements:
                view.message(self._announcements.pop(event["event"]))
            elif event["event"] == "end":
                self._reasons.append(event["reason"])
            elif event["event"] == "error" and not self._stopping:
                self._error = (UserError if event["user"] else ClappError)(event["text"])
                if event["user"]:
                    self._stopping = True  # every other worker would get the same error

    def _look(self) -> Snapshot:
        now = time.monotonic()
        again = now >= self._next_poll
        if again:
            self._next_poll = now + POLL_SECONDS
        shown = self._watcher.look(
            elapsed=now - self._started,
            seconds_left=self._seconds_left(),
            workers=[worker.describe() for worker in self._crew.workers],
            again=again,
        )
        if any(trial.state != TrialState.FAIL for trial in shown.finished):
            self._crew.finished_a_trial()
        return shown

    def _elapsed(self) -> float:
        return self._elapsed_before + time.monotonic() - self._started

    def _seconds_left(self) -> float | None:
        timeout = self._plan.file.budget.timeout
        return None if timeout is None else timeout - self._elapsed()

    def _save_elapsed(self) -> None:
        # Another driver may have counted more.
        known = self._study.user_attrs.get(definition.ELAPSED, 0.0)
        self._study.set_user_attr(definition.ELAPSED, max(known, round(self._elapsed(), 1)))

    def _end(self) -> None:
        """Stop the running workers. The next run repeats the interrupted trials."""
        self._crew.stop()
        self._recovery.stopped({worker.name for worker in self._crew.workers})
        self._save_elapsed()
        self._write_front()
        if self._artifacts is not None:
            self._share_front(self._artifacts)

    def _share_front(self, artifacts: str) -> None:
        """Upload the front's files for dashboards on other machines.

        This runs in a separate process, because drawing pictures needs torch, which the driver
        never imports.
        """
        place = (self._study.study_name, str(self._folder), self.url, artifacts)
        process = multiprocessing.get_context("spawn").Process(target=share_front, args=place)
        process.start()
        process.join()

    def _write_front(self) -> None:
        with writing_results(self._folder):
            write_front(self._folder, self._study)
            write_ledger(self._folder, self._study)

    def _conclude(self, view: View) -> int:
        """Print the outcome of the run."""
        if isinstance(self._error, UserError):
            raise self._error
        print_front(self._study)
        done = trained(self._study.get_trials(deepcopy=False))
        total = self._plan.file.budget.trials
        if self._stopping:
            view.message(
                f"interrupted after {done} of {total} trials; everything is saved in "
                f"{self._folder}. The same command goes on."
            )
            return INTERRUPTED
        if done < total:
            if not self._reasons:
                raise self._error or ClappError(f"the workers died; see {self._folder / 'logs'}")
            view.message(f"ended after {done} of {total} trials: {self._reasons[0]}")
        if done:
            self._say_what_next(view)
        return 0

    def _say_what_next(self, view: View) -> None:
        name = self._plan.name
        view.message(f"{self._folder / 'front.json'}, {self._folder / 'front.csv'}")
        where = self._options.where()
        view.message(
            f"next: clapp report {name}{where}\n      clapp export {name} --pick knee{where}\n"
            f"      clapp dashboard {name}{where}"
        )

    def _nothing_to_do(self, view: View, by_trials: bool) -> int:
        budget = self._plan.file.budget
        spent = (
            f"all {budget.trials} trials are trained"
            if by_trials
            else f"its time of {budget.timeout:g} s is spent"
        )
        view.message(
            f"study {self._plan.name} is finished: {spent}; raise --trials or --timeout to go on"
        )
        self._write_front()
        print_front(self._study)
        self._say_what_next(view)
        return 0
