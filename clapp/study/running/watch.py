"""The callback of a training: reports to the driver and ends trials."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from clapp.config import Config
from clapp.front.record import INTERRUPTED, record_of
from clapp.study.pruning.decide import Records, Rules, exact_sizes, is_rung, judge
from clapp.study.pruning.history import History
from clapp.study.pruning.pruners import Record, Verdict
from clapp.study.running.job import Job
from clapp.study.running.running_trial import RunningTrial
from clapp.study.running.stop import Stop

if TYPE_CHECKING:
    from clapp.training.trainer import Progress

Emit = Callable[..., None]


class Watch:
    """The callback of one training.

    Attributes:
        interrupted: why it was ended from outside, for example by the user.
        duplicate: number of another running trial with the same configuration.
        verdict: why it was stopped early.
        rest: stands still while another worker measures; None: nobody does.
    """

    interrupted: str | None = None
    duplicate: int | None = None
    verdict: Verdict | None = None
    rest: Callable[[], None] | None = None

    def __init__(
        self,
        trial: RunningTrial,
        config: Config,
        rules: Rules,
        job: Job,
        emit: Emit,
        stop: Stop,
        history: History,
        records: Records,
    ) -> None:
        self._trial, self._config = trial, config
        self._history, self._records = history, records
        self._rules, self._job, self._emit, self._stop = rules, job, emit, stop
        self._curve: list[list[float]] = []
        # A trial that was created with its parameters saw all earlier ones with theirs.
        self._checked = trial.drawn is not None
        self._judged = rules.is_judged(trial.record)

    def __call__(self, progress: "Progress") -> bool:
        """Handle a validation; returning True ends the training."""
        if self.rest is not None:
            self.rest()
        self._emit("progress", number=self._trial.number, step=progress.step, l2=progress.l2)
        self._curve.append([progress.step, round(progress.seconds, 2), progress.l2])
        deadline = self._job.deadline
        if self._stop.requested:
            self.interrupted = f"{INTERRUPTED}: stopped by the user"
        elif deadline is not None and time.time() >= deadline:
            self.interrupted = f"{INTERRUPTED}: the study's time is over"
        elif not self._checked:
            # If two workers start the same configuration at the same moment, neither may see the
            # other at first.
            trial = self._trial
            self._history.read(trial.trials())
            self.duplicate = self._history.duplicate(trial.number, trial.record)
            self._checked = True
        if self._judged:
            self._judge(progress)
        return self.interrupted is not None or self.duplicate is not None or bool(self.verdict)

    def keep_curve(self) -> None:
        """Note the curve in the trial's record."""
        self._trial.note(curve=[list(point) for point in self._curve])

    def _judge(self, progress: "Progress") -> None:
        trial, rules = self._trial, self._rules
        curve = {int(step): l2 for step, _, l2 in self._curve}
        sizes = exact_sizes(rules.objectives, trial.record)
        if sizes is None or not is_rung(rules, curve):
            return
        self.keep_curve()
        if rules.pruner.compares_running:
            trial.store()  # other workers compare their trials with it
        self._history.read(trial.trials())
        others = self._records.beside(trial.number, self._history, rules.constant_loss)
        judgement = judge(rules, trial.number, Record(sizes, curve), others)
        if judgement is None:
            return
        verdict = judgement.verdict
        if judgement.audited:
            self._judged = False
            trial.note(audit=verdict._asdict())
            return
        self.verdict = verdict
        saved = progress.seconds * (self._usual_length() / progress.step - 1)
        trial.note(
            stopped=verdict._asdict(),
            seconds=round(progress.seconds, 3),
            saved_seconds=round(max(saved, 0.0), 3),
        )

    def _usual_length(self) -> float:
        """The mean number of steps of the trainings that were not stopped."""
        complete = (t for t in self._history.trials if t.state == TrialState.COMPLETE)
        done = [n for t in complete if (n := record_of(t).iterations) is not None]
        most = self._config.train.max_iterations * self._config.num_resolutions
        return sum(done) / len(done) if done else most
