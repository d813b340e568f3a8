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
    return trial.user_attrs.get("skipped") == SURPLUS and is_enqueued(trial)


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
        skips += reason not in (None, SURPLUS) and not is_enqueued(trial)
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


def lost(
    trials: Sequence[FrozenTrial], max_retry: int, *, failed_baselines: bool = False
) -> list[FrozenTrial]:
    """The trials whose parameters are to be tried again and that nobody enqueued yet.

    Args:
        trials: all of a study.
        max_retry: how often a configuration whose worker was killed is tried again.
        failed_baselines: also the baselines that failed by themselves.
    """
    candidates = [
        trial
        for trial in trials
        if is_lost(trial) or (failed_baselines and is_failed(trial) and _is_baseline(trial))
    ]
    if not candidates:
        return []
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    return [
        trial
        for trial in candidates
        if trial.number not in retried
        and _next_attempt(trial) <= max_retry + 1
        and (_parameters(trial) or _is_baseline(trial))
    ]


def enqueue_again(study: "Study", max_retry: int, *, failed_baselines: bool = False) -> int:
    """Enqueue the parameters of lost trials, see `lost`; returns how many."""
    trials = study.get_trials(deepcopy=False)
    again = lost(trials, max_retry, failed_baselines=failed_baselines)
    for trial in again:
        attributes: dict[str, Any] = {"retry_of": trial.number, "attempt": _next_attempt(trial)}
        if _is_baseline(trial):
            attributes["baseline"] = trial.user_attrs["baseline"]
        study.enqueue_trial(_parameters(trial), user_attrs=attributes)
    return len(again)


def is_enqueued(trial: FrozenTrial) -> bool:
    """Whether its parameters were given, not drawn."""
    return "fixed_params" in trial.system_attrs


def _is_baseline(trial: FrozenTrial) -> bool:
    return "baseline" in trial.user_attrs


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _next_attempt(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("attempt", 1)) + _was_killed(trial)


def _was_killed(trial: FrozenTrial) -> bool:
    return "killed" in str(trial.user_attrs.get("failed", "killed"))
