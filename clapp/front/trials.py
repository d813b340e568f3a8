"""The states of trials: trained, skipped, failed, or lost and to be run again."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from clapp.front.record import INTERRUPTED, TrialRecord, record_of

SURPLUS = "surplus"


def is_trained(trial: FrozenTrial) -> bool:
    """Whether a trial was trained to the end or stopped early by a pruner; a budget counts
    these."""
    if trial.state == TrialState.COMPLETE:
        return True
    return trial.state == TrialState.PRUNED and record_of(trial).skipped is None


def is_failed(trial: FrozenTrial) -> bool:
    """Whether a trial failed by itself and was not interrupted from outside."""
    reason = record_of(trial).failed or INTERRUPTED
    return trial.state == TrialState.FAIL and not reason.startswith(INTERRUPTED)


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial was interrupted before it was trained, skipped or failed: it is to be
    repeated."""
    if trial.state == TrialState.FAIL:
        # When a heartbeat times out, no reason is stored.
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
    """The number of trials in a state."""
    return sum(trial.state == state for trial in trials)


def trained(trials: Iterable[FrozenTrial]) -> int:
    """The number of trials that count for a budget."""
    return sum(map(is_trained, trials))


def ended_first(trials: Sequence[FrozenTrial], known: int = 0) -> int:
    """How many of the first trials have ended; `known` of them are known to."""
    while known < len(trials) and trials[known].state.is_finished():
        known += 1
    return known


def skips_in_a_row(trials: Sequence[FrozenTrial], first: int) -> int:
    """Drawn trials skipped since the last trial that was not, among those numbered `first` and up.

    Enqueued trials do not count: two drivers may enqueue the same one, which says nothing about the
    search space.
    """
    skips = 0
    for trial in reversed(trials[first:]):
        if is_trained(trial) or is_failed(trial):
            break
        reason = record_of(trial).skipped
        skips += reason not in (None, SURPLUS) and not is_enqueued(trial)
    return skips


def last_skip(trials: Sequence[FrozenTrial]) -> str:
    """The reason of the latest skip."""
    reasons = (record_of(trial).skipped for trial in reversed(trials))
    return next(reason for reason in reasons if reason is not None)


def lost(
    trials: Sequence[FrozenTrial], max_retry: int, *, failed_baselines: bool = False
) -> list[FrozenTrial]:
    """The trials whose parameters are to be tried again and have not been enqueued yet.

    Args:
        trials: all of a study.
        max_retry: how often a configuration whose worker was killed is tried again.
        failed_baselines: include baselines that failed by themselves.
    """
    candidates = [
        trial
        for trial in trials
        if is_lost(trial) or (failed_baselines and is_failed(trial) and _is_baseline(trial))
    ]
    if not candidates:
        return []
    return to_repeat(candidates, {record_of(trial).retry_of for trial in trials}, max_retry)


def to_repeat(
    candidates: Iterable[FrozenTrial], retried: Collection[int | None], max_retry: int
) -> list[FrozenTrial]:
    """The lost trials that are to be tried again: not yet `retried`, with tries left."""
    return [
        trial
        for trial in candidates
        if trial.number not in retried
        and next_attempt(trial) <= max_retry + 1
        and (parameters(trial) or _is_baseline(trial))
    ]


def is_enqueued(trial: FrozenTrial) -> bool:
    """Whether a trial's parameters were given and not drawn."""
    return "fixed_params" in trial.system_attrs


def _is_baseline(trial: FrozenTrial) -> bool:
    return record_of(trial).baseline is not None


def parameters(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial was given or has drawn."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def next_attempt(trial: FrozenTrial) -> int:
    """The number of the next try of a trial's parameters."""
    return record_of(trial).attempt + _was_killed(trial)


def _was_killed(trial: FrozenTrial) -> bool:
    return "killed" in (record_of(trial).failed or "killed")
