"""What the trials of a study stand for: trained, skipped, failed, or lost and to be run again."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from clapp.front.record import INTERRUPTED, TrialRecord, record_of

if TYPE_CHECKING:
    pass

SURPLUS = "surplus"


def is_trained(trial: FrozenTrial) -> bool:
    """Trained to the end, or stopped early by a pruner: what a budget counts."""
    if trial.state == TrialState.COMPLETE:
        return True
    return trial.state == TrialState.PRUNED and record_of(trial).skipped is None


def is_failed(trial: FrozenTrial) -> bool:
    """Failed by itself, not interrupted from outside."""
    reason = record_of(trial).failed or INTERRUPTED
    return trial.state == TrialState.FAIL and not reason.startswith(INTERRUPTED)


def is_lost(trial: FrozenTrial) -> bool:
    """Asked for but neither trained, skipped nor failed: its parameters deserve another trial."""
    if trial.state == TrialState.FAIL:
        # A heartbeat that ran out leaves no reason.
        return not is_failed(trial)
    return record_of(trial).skipped == SURPLUS and is_enqueued(trial)


def enqueued_as(record: TrialRecord) -> tuple[str, Any] | None:
    """What a trial was enqueued for: a baseline, a trial of another study, or a lost trial."""
    if record.retry_of is not None:
        return ("retry_of", record.retry_of)
    if record.ancestor is not None:
        return ("ancestor", (record.ancestor["study"], record.ancestor["trial"]))
    return None if record.baseline is None else ("baseline", record.baseline)


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
        reason = record_of(trial).skipped
        skips += reason not in (None, SURPLUS) and not is_enqueued(trial)
    return skips


def last_skip(trials: Sequence[FrozenTrial]) -> str:
    """Why the latest skipped trial was skipped."""
    reasons = (record_of(trial).skipped for trial in reversed(trials))
    return next(reason for reason in reasons if reason is not None)


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
    retried = {record_of(trial).retry_of for trial in trials}
    return [
        trial
        for trial in candidates
        if trial.number not in retried
        and next_attempt(trial) <= max_retry + 1
        and (parameters(trial) or _is_baseline(trial))
    ]


def is_enqueued(trial: FrozenTrial) -> bool:
    """Whether its parameters were given, not drawn."""
    return "fixed_params" in trial.system_attrs


def _is_baseline(trial: FrozenTrial) -> bool:
    return record_of(trial).baseline is not None


def parameters(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial was given or drew."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def next_attempt(trial: FrozenTrial) -> int:
    """The number of the next try of a trial's parameters."""
    return record_of(trial).attempt + _was_killed(trial)


def _was_killed(trial: FrozenTrial) -> bool:
    return "killed" in (record_of(trial).failed or "killed")
