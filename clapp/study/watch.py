"""What happens to a trial while it trains: told to the driver, ended when it must not go on."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from clapp.config import Config
from clapp.study.job import Job
from clapp.study.plan import Plan
from clapp.study.pruners import Record, Verdict, constant, is_audited
from clapp.study.record import INTERRUPTED, TrialRecord, record_of
from clapp.study.running import RunningTrial
from clapp.study.stop import Stop
from clapp.study.trials import enqueued_as, is_trained

if TYPE_CHECKING:
    from clapp.training import Progress

Emit = Callable[..., None]
EXACT = ("params", "flops")
"""Objectives that are known before a training and the same on every machine."""


class Watch:
    """The callback of one training.

    Attributes:
        interrupted: why it was ended from outside.
        duplicate: another trial of the same configuration that was found to be under way.
        verdict: why it was stopped early.
    """

    interrupted: str | None = None
    duplicate: int | None = None
    verdict: Verdict | None = None

    def __init__(
        self,
        trial: RunningTrial,
        config: Config,
        plan: Plan,
        job: Job,
        emit: Emit,
        stop: Stop,
        records: "Records",
    ) -> None:
        self._trial, self._config, self._records = trial, config, records
        self._plan, self._job, self._emit, self._stop = plan, job, emit, stop
        self._pruner = plan.file.pruner
        self._curve: list[list[float]] = []
        self._checked = False
        # A baseline is somebody's wish, and the reference is what the others are measured by.
        # Where nothing is judged, what all the others did need not be gathered.
        self._judged = trial.record.baseline is None and self._pruner.name != "none"

    def __call__(self, progress: "Progress") -> bool:
        """Take in a validation; True ends the training."""
        self._emit("progress", number=self._trial.number, step=progress.step, l2=progress.l2)
        before = int(self._curve[-1][0]) if self._curve else 0
        self._curve.append([progress.step, round(progress.seconds, 2), progress.l2])
        deadline = self._job.deadline
        if self._stop.requested:
            self.interrupted = f"{INTERRUPTED}: stopped by the user"
        elif deadline is not None and time.time() >= deadline:
            self.interrupted = f"{INTERRUPTED}: the study's time is over"
        elif not self._checked:
            # Of two workers that started the same configuration in the same instant, one could
            # not see the other at first.
            self.duplicate = same(self._trial, self._trials())
            self._checked = True
        if self._judged and self._pruner.is_rung(before, progress.step):
            self._judge(progress)
        return self.interrupted is not None or self.duplicate is not None or bool(self.verdict)

    def keep_curve(self) -> None:
        """Note the curve in the trial's record."""
        self._trial.note(curve=[list(point) for point in self._curve])

    def hopeless(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether the trial's sizes alone say that it need not be trained beside `trials`."""
        sizes = self._sizes()
        return self._judged and self._pruner.hopeless(sizes, self._others(trials))

    def _judge(self, progress: "Progress") -> None:
        self.keep_curve()
        if self._pruner.name == "mo-asha":
            self._trial.store()  # the others judge theirs by it
        record = Record(self._sizes(), {int(step): l2 for step, _, l2 in self._curve})
        verdict = self._pruner.verdict(record, self._others(self._trials()))
        if verdict is None:
            return
        if is_audited(self._pruner, self._plan.file.seed, self._trial.number):
            self._judged = False
            self._trial.note(audit=verdict._asdict())
            return
        self.verdict = verdict
        saved = progress.seconds * (self._usual_length() / progress.step - 1)
        self._trial.note(
            stopped=verdict._asdict(),
            seconds=round(progress.seconds, 3),
            saved_seconds=round(max(saved, 0.0), 3),
        )

    def _sizes(self) -> tuple[float, ...]:
        return exact_sizes(self._plan.file.objectives, self._trial.record) or ()

    def _usual_length(self) -> float:
        """Steps of a training that is not stopped: those of the finished ones, on average."""
        complete = (t for t in self._trials() if t.state == TrialState.COMPLETE)
        done = [n for t in complete if (n := record_of(t).iterations) is not None]
        most = self._config.train.max_iterations * self._config.num_resolutions
        return sum(done) / len(done) if done else most

    def _others(self, trials: Sequence[FrozenTrial]) -> list[Record]:
        return [
            constant(self._mean, len(self._sizes())),
            *self._records.of(t for t in trials if t.number != self._trial.number),
        ]

    @cached_property
    def _mean(self) -> float:
        """L2 of predicting the mean of the validation targets."""
        from clapp.validation import constant_l2

        return constant_l2(self._config.valid_data, self._config.target_filter)

    def _trials(self) -> list[FrozenTrial]:
        return self._trial.trials()


def exact_sizes(objectives: Sequence[str], record: TrialRecord) -> tuple[float, ...] | None:
    """The objectives of a trial that are exact before its training; None: nobody stored them."""
    sizes = [record.value(name) for name in objectives if name in EXACT]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


class Records:
    """What a pruner may know of a study's trials: trained, being trained, or stopped early.

    A finished trial, which cannot change, is looked at once: there may be ten thousand.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self._objectives = objectives
        self._finished: dict[int, Record | None] = {}

    def of(self, trials: Iterable[FrozenTrial]) -> list[Record]:
        """The records of trials, without those over a limit: they are no alternative."""
        return [record for record in map(self.one, trials) if record is not None]

    def one(self, trial: FrozenTrial) -> Record | None:
        """The record of a trial; None: it is over a limit, or nothing is known of it yet."""
        if trial.number in self._finished:
            return self._finished[trial.number]
        record = self._record(trial)
        if trial.state.is_finished():
            self._finished[trial.number] = record
        return record

    def _record(self, trial: FrozenTrial) -> Record | None:
        stored = record_of(trial)
        sizes = exact_sizes(self._objectives, stored)
        if sizes is None or any(v > 0 for v in trial.constraints.values()):
            return None
        curve = {int(step): l2 for step, _, l2 in stored.curve}
        loss = stored.loss if trial.state == TrialState.COMPLETE else None
        return None if not curve and loss is None else Record(sizes, curve, loss)


def same(trial: RunningTrial, trials: Sequence[FrozenTrial]) -> int | None:
    """The number of another trial of the same configuration, trained or being trained.

    Drivers on several machines may enqueue the same one at once: then the first of these.
    """
    key, wanted = trial.record.key, enqueued_as(trial.record)
    for other in trials:
        known = record_of(other)
        if wanted and other.number < trial.number and enqueued_as(known) == wanted:
            return other.number
        if other.number == trial.number or known.key != key:
            continue
        earlier = other.state == TrialState.RUNNING and other.number < trial.number
        if earlier or is_trained(other):
            return other.number
    return None
