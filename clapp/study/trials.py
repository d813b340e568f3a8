"""What the trials of a study stand for: trained, skipped, failed, or lost and to be run again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from optuna import Study

INTERRUPTED = "interrupted"
SURPLUS = "surplus"


def is_trained(trial: FrozenTrial) -> bool:
    """Trained to the end, or stopped early by a pruner: what a budget counts."""
    if trial.state == TrialState.COMPLETE:
        return True
    return trial.state == TrialState.PRUNED and "skipped" not in trial.user_attrs


def is_failed(trial: FrozenTrial) -> bool:
    """Failed by itself, not interrupted from outside."""
    reason = trial.user_attrs.get("failed", INTERRUPTED)
    return trial.state == TrialState.FAIL and not str(reason).startswith(INTERRUPTED)


def is_lost(trial: FrozenTrial) -> bool:
    """Asked for but neither trained, skipped nor failed: its parameters deserve another trial."""
    if trial.state == TrialState.FAIL:
        # A heartbeat that ran out leaves no reason.
        return not is_failed(trial)
    return trial.user_attrs.get("skipped") == SURPLUS and "fixed_params" in trial.system_attrs


def enqueued_as(attributes: Mapping[str, Any]) -> tuple[str, Any] | None:
    """What a trial was enqueued for, from its user attributes: a baseline, or a lost trial."""
    if "retry_of" in attributes:
        return ("retry_of", attributes["retry_of"])
    return ("baseline", attributes["baseline"]) if "baseline" in attributes else None


def count(trials: Iterable[FrozenTrial], state: TrialState) -> int:
    """How many trials are in a state."""
    return sum(trial.state == state for trial in trials)


def trained(trials: Iterable[FrozenTrial]) -> int:
    """How many trials a budget counts."""
    return sum(map(is_trained, trials))


def skips_in_a_row(trials: Sequence[FrozenTrial], first: int) -> int:
    """Drawn trials skipped since the last trial that was not, among those numbered `first` and up.

    One that was enqueued, by two drivers perhaps, tells nothing of what is left to be drawn.
    """
    skips = 0
    for trial in reversed(trials[first:]):
        if is_trained(trial) or is_failed(trial):
            break
        reason = trial.user_attrs.get("skipped")
        skips += reason not in (None, SURPLUS) and "fixed_params" not in trial.system_attrs
    return skips


def last_skip(trials: Sequence[FrozenTrial]) -> str:
    """Why the latest skipped trial was skipped."""
    reasons = (trial.user_attrs.get("skipped") for trial in reversed(trials))
    return next(str(reason) for reason in reasons if reason is not None)


def interrupt(study: "Study", trial: FrozenTrial, reason: str) -> bool:
    """Fail a running trial for a reason outside of it; False when it has finished meanwhile."""
    return fail(study, trial, f"{INTERRUPTED}: {reason}")


def fail(study: "Study", trial: FrozenTrial, reason: str) -> bool:
    """Fail a running trial; False when it has finished meanwhile."""
    storage = study._storage
    try:
        storage.set_trial_user_attr(trial._trial_id, "failed", reason)
        return storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False


def killed(study: "Study", trial: FrozenTrial, max_retry: int) -> bool:
    """Fail a running trial whose worker was killed: it is lost, or failed after its last attempt.

    False when it has finished meanwhile.
    """
    attempt = trial.user_attrs.get("attempt", 1)
    reason = f"its worker was killed (attempt {attempt} of {max_retry + 1})"
    if attempt <= max_retry:
        return interrupt(study, trial, reason)
    return fail(study, trial, reason)


def enqueue_again(study: "Study", max_retry: int, *, failed_baselines: bool = False) -> int:
    """Enqueue the parameters of lost trials that nobody enqueued yet; returns how many.

    Args:
        study: its trials.
        max_retry: how often a configuration whose worker was killed is tried again.
        failed_baselines: also the baselines that failed by themselves.
    """
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    lost = [
        trial
        for trial in trials
        if trial.number not in retried
        and (is_lost(trial) or (failed_baselines and is_failed(trial) and _is_baseline(trial)))
    ]
    return sum(_enqueue_copy(study, trial, max_retry) for trial in lost)


def _is_baseline(trial: FrozenTrial) -> bool:
    return "baseline" in trial.user_attrs


def _enqueue_copy(study: "Study", trial: FrozenTrial, max_retry: int) -> bool:
    attempt = trial.user_attrs.get("attempt", 1) + _was_killed(trial)
    parameters = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    if attempt > max_retry + 1 or not (parameters or _is_baseline(trial)):
        return False
    attributes: dict[str, Any] = {"retry_of": trial.number, "attempt": attempt}
    if _is_baseline(trial):
        attributes["baseline"] = trial.user_attrs["baseline"]
    study.enqueue_trial(parameters, user_attrs=attributes)
    return True


def _was_killed(trial: FrozenTrial) -> bool:
    return "killed" in str(trial.user_attrs.get("failed", "killed"))
