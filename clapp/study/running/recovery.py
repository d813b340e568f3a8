"""Recovery of trials whose process was killed: they are failed and enqueued again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from clapp.front.record import record_of
from clapp.study.running import crew
from clapp.study.running.crew import Worker
from clapp.study.storage import liveness
from clapp.study.storage import storage as storages
from clapp.study.storage.retries import enqueue_again, enqueuing, fail, interrupt, killed, running
from clapp.study.storage.signs import Silence

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Recovery:
    """Finds the lost trials of a study and enqueues their configurations again.

    Attributes:
        study: the study.
        locks: the folder with the locks of live workers of this results folder.
        local: whether all workers use this folder; if so, a worker without a lock there is dead.
        max_retry: how often a configuration whose worker was killed is tried again.
    """

    study: "Study"
    locks: Path
    local: bool
    max_retry: int
    _silence: Silence = field(default_factory=Silence)

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
        """Enqueue the running trials of `workers`, which the user has stopped, and recover."""
        for trial in running(self.study):
            if record_of(trial).worker in workers:
                interrupt(self.study, trial, "stopped by the user")
        self.recover()

    def hung(self, worker: Worker) -> None:
        """Kill a worker whose trial exceeded its time limit by far, and fail that trial."""
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
        if worker is None:
            # Either it has just begun, or its worker died before it could store its name.
            return self._silence.is_nameless(trial, local=self.local)
        return self.local or self._silence.seconds(trial) > storages.GRACE_SECONDS
