"""Signs of life of workers on other machines, stored as attributes of their trials.

A worker updates such an attribute at intervals. Clocks of machines differ, so a process that can
watch for a while looks for a change; other processes trust the clocks to a minute.
"""

import time
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from clapp.front.record import record_of
from clapp.study.storage import storage as storages
from clapp.system.progress import tell

if TYPE_CHECKING:
    from optuna import Study

ALIVE = "alive"
"""User attribute of a running trial: time of its worker's last sign, in seconds since the epoch."""

NAMELESS_SECONDS = 10
"""Seconds after which a trial without a worker's name counts as dead; naming takes milliseconds."""


def sign(trial: FrozenTrial) -> Any:
    """A value that changes while the worker of a trial is alive."""
    return record_of(trial).worker, trial.user_attrs.get(ALIVE)


class Silence:
    """Measures how long running trials have given no sign of life, while this process watches.

    It does not use the clocks of other machines, which may be wrong.
    """

    def __init__(self) -> None:
        self._signs: dict[int, tuple[Any, float]] = {}

    def seconds(self, trial: FrozenTrial) -> float:
        """Seconds since a change of `trial` was last seen; 0 at the first call for it."""
        shown, now = sign(trial), time.monotonic()
        seen, since = self._signs.get(trial.number, (shown, now))
        since = since if seen == shown else now
        self._signs[trial.number] = shown, since
        return now - since

    def is_nameless(self, trial: FrozenTrial, *, local: bool) -> bool:
        """Whether a running trial has been without a worker's name for too long.

        Args:
            local: whether all workers of the study write to this machine's disk.
        """
        if trial.state != TrialState.RUNNING or record_of(trial).worker is not None:
            return False
        return self.seconds(trial) > (NAMELESS_SECONDS if local else storages.GRACE_SECONDS)


def gave_one_lately(trial: FrozenTrial) -> bool:
    """Whether the worker of a trial gave a sign of life lately, by this machine's clock."""
    latest = trial.user_attrs.get(ALIVE) or record_of(trial).started
    return latest is not None and time.time() - latest < storages.GRACE_SECONDS


def machines_at_work(study: "Study") -> list[str]:
    """The machines whose workers are training trials of a study now.

    If trials are running without recent signs of life by the clock, this function watches them for
    as long as a live worker may be silent.
    """
    trials = _running(study)
    alive = [trial for trial in trials if gave_one_lately(trial)]
    if trials and not alive:
        tell("looking for signs of life of other machines")
        before = {trial.number: sign(trial) for trial in trials}
        deadline = time.monotonic() + 1.2 * storages.HEARTBEAT_SECONDS
        while not alive and time.monotonic() < deadline:
            time.sleep(min(1.0, storages.HEARTBEAT_SECONDS))
            alive = [t for t in _running(study) if sign(t) != before.get(t.number)]
    return sorted(set(map(_machine, alive)))


def _running(study: "Study") -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _machine(trial: FrozenTrial) -> str:
    """The host of the worker `HOST-PID-INDEX-TOKEN`."""
    return (record_of(trial).worker or "an unknown machine").rsplit("-", 3)[0]
