"""The decisions of a recorded study, and the same taken again from what it stored."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from clapp.front.record import RECORD, TrialRecord, record_of
from clapp.front.trials import is_enqueued, is_trained
from clapp.study.pruning.decide import (
    Judgement,
    Records,
    Rules,
    before_training,
    exact_sizes,
    is_rung,
    judge,
    over_limit,
)
from clapp.study.pruning.history import History
from clapp.study.pruning.pruners import Record


class Decision(NamedTuple):
    """What was decided of a trial: why it was skipped, at which step it was stopped or audited."""

    number: int
    skipped: str | None = None
    duplicate_of: int | None = None
    stopped: int | None = None
    audited: int | None = None


def decided(trials: Sequence[FrozenTrial]) -> Iterator[Decision]:
    """What a study decided of each of its trials that were trained, or skipped by a decision."""
    for trial in trials:
        record = record_of(trial)
        if _is_decision(trial, record):
            yield Decision(
                trial.number,
                record.skipped,
                record.duplicate_of,
                record.stopped and record.stopped["step"],
                record.audit and record.audit["step"],
            )


def decided_again(trials: Sequence[FrozenTrial], rules: Rules) -> Iterator[Decision]:
    """The same from the sizes, curves and times that the study stored."""
    for trial in trials:
        record = record_of(trial)
        if _is_decision(trial, record):
            yield _again(trial.number, record, trials, rules)


def _is_decision(trial: FrozenTrial, record: TrialRecord) -> bool:
    if record.skipped is not None:
        return not record.skipped.startswith("invalid")
    return is_trained(trial)


def _again(
    number: int,
    record: TrialRecord,
    trials: Sequence[FrozenTrial],
    rules: Rules,
) -> Decision:
    begun = record.started or 0.0
    known = {name: v for name in rules.limits if (v := record.value(name)) is not None}
    skip = over_limit({n: v for n, v in known.items() if n != "loss"}, rules.limits)
    seen = _as_seen(trials, begun, number, rules)
    skip = skip or before_training(rules, number, record, seen, _records(rules))
    if skip is not None:
        return Decision(number, skip.reason, skip.duplicate_of)
    curve: dict[int, float] = {}
    for step, seconds, l2 in record.curve:
        curve[int(step)] = l2
        last = step == record.curve[-1][0] and record.stopped is None
        if last or not rules.is_judged(record) or not is_rung(rules, curve):
            continue
        found = _judged(number, record, curve, begun + seconds, trials, rules)
        if found is not None and found.audited:
            return Decision(number, audited=int(step))
        if found is not None:
            return Decision(number, stopped=int(step))
    return Decision(number)


def _judged(
    number: int,
    record: TrialRecord,
    curve: dict[int, float],
    moment: float,
    trials: Sequence[FrozenTrial],
    rules: Rules,
) -> Judgement | None:
    sizes = exact_sizes(rules.objectives, record)
    assert sizes is not None
    seen = _as_seen(trials, moment, number, rules)
    others = _records(rules).beside(number, seen, rules.constant_loss)
    return judge(rules, number, Record(sizes, dict(curve)), others)


def _records(rules: Rules) -> Records:
    """New for each decision, since these are not in the order of their moments."""
    return Records(rules.objectives, rules.limits)


def _as_seen(trials: Sequence[FrozenTrial], moment: float, number: int, rules: Rules) -> History:
    """The trials as they stood for trial `number` at a moment; of equal moments by number."""
    found = []
    for trial in trials:
        record = record_of(trial)
        begun, ended = record.started or 0.0, record.ended or float("inf")
        if trial.number == number:
            found.append(_changed(trial, TrialState.RUNNING, record, ()))
        elif (ended, trial.number) < (moment, number):
            found.append(trial)
        elif (begun, trial.number) > (moment, number):
            if is_enqueued(trial) or trial.number < number:
                found.append(_changed(trial, TrialState.WAITING, TrialRecord(), ()))
        else:
            curve = [p for p in record.curve if (begun + p[1], trial.number) < (moment, number)]
            if record.audit is not None:  # it is not judged again
                curve = [point for point in curve if point[0] <= record.audit["step"]]
            stored = _stored(curve, rules) if rules.pruner.compares_running else ()
            found.append(_changed(trial, TrialState.RUNNING, record, stored))
    return History(found)


def _stored(curve: Sequence[Sequence[float]], rules: Rules) -> Sequence[Sequence[float]]:
    """What of a curve a running trial has stored: up to its latest rung."""
    kept = 0
    for position in range(1, len(curve) + 1):
        if is_rung(rules, {int(step): l2 for step, _, l2 in curve[:position]}):
            kept = position
    return curve[:kept]


def _changed(
    trial: FrozenTrial, state: TrialState, record: TrialRecord, curve: Sequence[Sequence[float]]
) -> FrozenTrial:
    other = copy(trial)
    other.state, other.values = state, None
    earlier = replace(record, curve=curve, loss=None, skipped=None, stopped=None, failed=None)
    other.user_attrs = {RECORD: earlier.document()}
    return other
