"""Fail trials that are given up, and enqueue their parameters again."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from clapp.front.record import INTERRUPTED, RECORD, attributes, record_of
from clapp.front.trials import lost, next_attempt, parameters
from clapp.study.storage.patience import all_trials, patiently
from clapp.study.storage.storage import BUSY_SECONDS, storage_of, trial_id

if TYPE_CHECKING:
    from optuna import Study


def interrupt(study: "Study", trial: FrozenTrial, reason: str) -> bool:
    """Fail a running trial for an outside reason; returns False if it has finished meanwhile."""
    return fail(study, trial, f"{INTERRUPTED}: {reason}")


def fail(study: "Study", trial: FrozenTrial, reason: str) -> bool:
    """Fail a running trial; returns False if it has finished meanwhile."""
    storage, number = storage_of(study), trial.number
    record = replace(record_of(trial), failed=reason, ended=time.time())

    def write() -> bool:
        one = trial_id(study, number)
        storage.set_trial_user_attr(one, RECORD, record.document())
        return storage.set_trial_state_values(one, TrialState.FAIL)

    try:
        return patiently(write)
    except UpdateFinishedTrialError:
        return False


def killed(study: "Study", trial: FrozenTrial, max_retry: int) -> bool:
    """Fail a running trial whose worker was killed: lost, or failed if this was its last attempt.

    Returns False if it has finished meanwhile.
    """
    attempt = record_of(trial).attempt
    reason = f"its worker was killed (attempt {attempt} of {max_retry + 1})"
    if attempt <= max_retry:
        return interrupt(study, trial, reason)
    return fail(study, trial, reason)


def enqueue_again(study: "Study", max_retry: int, *, failed_baselines: bool = False) -> int:
    """Enqueue the parameters of lost trials (see `lost`); returns their number."""
    trials = all_trials(study)
    again = lost(trials, max_retry, failed_baselines=failed_baselines)
    for trial in again:
        facts: dict[str, Any] = {"retry_of": trial.number, "attempt": next_attempt(trial)}
        record = record_of(trial)
        facts |= {"baseline": record.baseline, "ancestor": record.ancestor}
        study.enqueue_trial(parameters(trial), user_attrs=attributes(**facts))
    return len(again)


def enqueuing(locks: Path) -> FileLock:
    """Lock for enqueuing trials, so that only one of several drivers on this folder does it.

    Drivers on other machines are not locked out; workers skip trials that are enqueued twice.
    """
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / "enqueue.lock", timeout=BUSY_SECONDS)


def running(study: "Study") -> list[FrozenTrial]:
    """The trials that are running according to the storage."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
