"""What a killed process left behind: trials that count as running, to be tried again elsewhere."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from clapp.front.record import record_of
from clapp.study.running import crew
from clapp.study.running.crew import Worker
from clapp.study.storage import liveness
from clapp.study.storage import storage as storages
from clapp.study.storage.retries import enqueue_again, enqueuing, fail, interrupt, killed, running
from clapp.study.storage.signs import sign

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

NAMELESS_SECONDS = 10
"""A worker names itself to its trial within milliseconds; without a name this long it is dead."""


@dataclass(frozen=True)
class Recovery:
    """Finds the lost trials of a study and enqueues their configurations again.

    Attributes:
        study: the study.
        locks: where workers of this results folder show that they live.
        local: all workers of the study use this folder, so one unknown to it is dead.
        max_retry: how often a configuration whose worker was killed is tried again.
    """

    study: "Study"
    locks: Path
    local: bool
    max_retry: int
    _signs: dict[int, tuple[Any, float]] = field(default_factory=dict)

    def recover(self, *, failed_baselines: bool = False) -> None:
        """Fail the running trials whose workers are dead, and enqueue what was lost.

        Args:
            failed_baselines: enqueue also the baselines that failed by themselves.
        """
        with enqueuing(self.locks):
            for trial in running(self.study):
                if self._is_stale(trial) and killed(self.study, trial, self.max_retry):
                    logger.warning(f"trial {trial.number}: its worker was killed")
                    liveness.forget(self.locks, str(record_of(trial).worker))
            enqueue_again(self.study, self.max_retry, failed_baselines=failed_baselines)

    def stopped(self, workers: set[str]) -> None:
        """Give back what `workers`, which the user stopped, had under way; then recover."""
        for trial in running(self.study):
            if record_of(trial).worker in workers:
                interrupt(self.study, trial, "stopped by the user")
        self.recover()

    def hung(self, worker: Worker) -> None:
        """Kill a worker that should have ended its trial long ago, and fail that trial."""
        for trial in running(self.study):
            if record_of(trial).worker == worker.name:
                worker.process.kill()
                worker.process.wait()
                reason = (
                    f"hung: not ended {crew.HANG_SECONDS:g} s after its limit of {worker.limit:g} s"
                )
                if fail(self.study, trial, reason):
                    logger.warning(f"trial {trial.number} {reason}")

    def _is_stale(self, trial: "FrozenTrial") -> bool:
        worker = record_of(trial).worker
        if worker is not None and liveness.is_known(self.locks, worker):
            return not liveness.is_alive(self.locks, worker)
        if worker is None and self.local:
            # Either just asked for, or its worker died before it could say who it is.
            return self._silence(trial) > NAMELESS_SECONDS
        return self.local or self._silence(trial) > storages.GRACE_SECONDS

    def _silence(self, trial: "FrozenTrial") -> float:
        """Seconds in which a trial gave no sign of life, as far as this process has watched it.

        No clock of another machine is asked: it may be off.
        """
        shown, now = sign(trial), time.monotonic()
        seen, since = self._signs.get(trial.number, (shown, now))
        since = since if seen == shown else now
        self._signs[trial.number] = shown, since
        return now - since
