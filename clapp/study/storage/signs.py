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


def sign(trial: FrozenTrial) -> Any:
    """What changes while the worker of a trial lives."""
    return record_of(trial).worker, trial.user_attrs.get(ALIVE)


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
