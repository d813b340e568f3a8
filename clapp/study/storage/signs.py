"""Signs of life of workers on other machines, as the storage shows them.

A worker says now and then, in an attribute of its trial, that it lives. Clocks of machines differ,
so whoever can watch for a while looks for a change; whoever cannot trusts the clocks to a minute.
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
"""User attribute of a running trial: seconds since the epoch when its worker last gave a sign."""

NAMELESS_SECONDS = 10
"""A worker names itself to its trial within milliseconds; without a name this long it is dead."""


def sign(trial: FrozenTrial) -> Any:
    """What changes while the worker of a trial lives."""
    return record_of(trial).worker, trial.user_attrs.get(ALIVE)


class Silence:
    """How long running trials have given no sign of life, as far as this process has watched.

    No clock of another machine is asked: it may be off.
    """

    def __init__(self) -> None:
        self._signs: dict[int, tuple[Any, float]] = {}

    def seconds(self, trial: FrozenTrial) -> float:
        """Seconds since a look at `trial` last showed something new; 0 at the first look."""
        shown, now = sign(trial), time.monotonic()
        seen, since = self._signs.get(trial.number, (shown, now))
        since = since if seen == shown else now
        self._signs[trial.number] = shown, since
        return now - since

    def is_nameless(self, trial: FrozenTrial, *, local: bool) -> bool:
        """Whether nobody has said for too long that they work on a running trial.

        Args:
            local: all workers of the study write to this machine's disk.
        """
        if trial.state != TrialState.RUNNING or record_of(trial).worker is not None:
            return False
        return self.seconds(trial) > (NAMELESS_SECONDS if local else storages.GRACE_SECONDS)


def gave_one_lately(trial: FrozenTrial) -> bool:
    """Whether by this machine's clock the worker of a trial lived a moment ago."""
    latest = trial.user_attrs.get(ALIVE) or record_of(trial).started
    return latest is not None and time.time() - latest < storages.GRACE_SECONDS


def machines_at_work(study: "Study") -> list[str]:
    """Machines whose workers train trials of a study right now.

    Where the clocks say that nobody does although trials are running, this watches them for as long
    as a living worker may be silent.
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
