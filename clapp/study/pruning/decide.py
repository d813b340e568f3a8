"""The decisions of a search: what is skipped, what is stopped early, what counts as within limits.

Pure functions of a study's rules and of trials as they stand. Running studies and replays of
recorded curves both ask here, so a replay of a recorded study decides as the study did.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from clapp.front.feasible import is_feasible, violations
from clapp.front.objectives import exact_names
from clapp.front.record import TrialRecord, record_of
from clapp.front.trials import SURPLUS, enqueued_as, is_enqueued, is_trained, lost
from clapp.study.pruning.problem import Problem
from clapp.study.pruning.pruners import Pruner, Record, Verdict, constant, is_audited


@dataclass(frozen=True)
class Rules:
    """What the decisions of a study follow from.

    Attributes:
        objectives: their names, in the order of the trials' values.
        limits: objective -> the largest value allowed at present.
        seed: the study's.
        budget: trials to train; None: no end.
        max_retry: how often a configuration whose worker was killed is tried again.
        constant_loss: of the best constant prediction; None: unknown.
    """

    objectives: Sequence[str]
    limits: Mapping[str, float]
    pruner: Pruner
    seed: int
    budget: int | None = None
    max_retry: int = 0
    constant_loss: float | None = None

    @classmethod
    def of(
        cls, problem: Problem, pruner: Pruner, budget: int | None = None, max_retry: int = 0
    ) -> "Rules":
        """The rules of a study."""
        return cls(
            problem.objectives,
            problem.limits,
            pruner,
            problem.seed,
            budget,
            max_retry,
            problem.constant_loss,
        )

    def is_judged(self, record: TrialRecord) -> bool:
        """Whether a trial may be stopped early or called hopeless.

        Baselines are not: the user asked for them, and the reference is the yardstick.
        """
        return record.baseline is None and self.pruner.judges


class Skip(NamedTuple):
    """Why a trial is not trained, and the trial that it repeats."""

    reason: str
    duplicate_of: int | None = None


class Judgement(NamedTuple):
    """A pruner's verdict; an audited trial runs on, as a sample of what stopping costs."""

    verdict: Verdict
    audited: bool


# Limits


def over_limit(values: Mapping[str, float], limits: Mapping[str, float]) -> Skip | None:
    """Skip a trial that is over a limit; the reason names the one that it exceeds most."""
    over = violations(values, limits)
    worst = max(over, key=lambda name: over[name], default=None)
    if worst is None or over[worst] <= 0:
        return None
    return Skip(f"limit: {worst} {values[worst]:g} exceeds {limits[worst]:g}")


# Before a training


def before_training(
    rules: Rules,
    number: int,
    record: TrialRecord,
    trials: Sequence[FrozenTrial],
    records: "Records",
) -> Skip | None:
    """Why trial `number`, which is within the limits, is not trained; None: it is.

    Args:
        record: what is known of it: its key and its sizes.
        trials: all of the study, in the order of their numbers, as they stand now.
    """
    if rules.budget is not None and is_surplus(number, trials, rules.budget, rules.max_retry):
        return Skip(SURPLUS)
    original = find_duplicate(number, record, trials)
    if original is not None:
        return Skip("duplicate", original)
    sizes = exact_sizes(rules.objectives, record)
    if rules.is_judged(record) and sizes is not None:
        others = records.beside(number, trials, rules.constant_loss)
        if rules.pruner.hopeless(sizes, others):
            return Skip("hopeless: a model no larger is as good as 8 bits can tell")
    return None


def is_surplus(number: int, trials: Sequence[FrozenTrial], budget: int, max_retry: int) -> bool:
    """Whether the budget is spent without trial `number`; makes the total exact without a lock.

    Numbers are given one after another, so every trial sees all with smaller ones. Of those that go
    on, the last had fewer than the budget before it that were trained or may yet be. One that was
    drawn also leaves room for those to be tried again.
    """
    drawn = not is_enqueued(trials[number])
    ahead = sum(
        is_trained(t) or not t.state.is_finished()
        for t in trials
        if t.number < number or (drawn and is_enqueued(t))
    )
    if drawn:
        ahead += len(lost(trials, max_retry))
    return ahead >= budget


def find_duplicate(number: int, record: TrialRecord, trials: Iterable[FrozenTrial]) -> int | None:
    """The number of another trial of the same configuration, trained or being trained.

    Drivers on several machines may enqueue the same one at once: then the first of these.
    """
    wanted = enqueued_as(record)
    for other in trials:
        known = record_of(other)
        if wanted and other.number < number and enqueued_as(known) == wanted:
            return other.number
        if other.number == number or known.key != record.key:
            continue
        earlier = other.state == TrialState.RUNNING and other.number < number
        if earlier or is_trained(other):
            return other.number
    return None


# While it trains


def is_rung(rules: Rules, curve: Mapping[int, float]) -> bool:
    """Whether a trial is judged at the last point of its curve, step -> validation L2."""
    *_, before, step = (0, *sorted(curve))
    return rules.pruner.is_rung(before, step)


def judge(rules: Rules, number: int, own: Record, others: Sequence[Record]) -> Judgement | None:
    """Judge a trial at the last point of its curve, which is a rung; None: it goes on.

    Args:
        own: its record, with the curve so far.
        others: see `Records.beside`.
    """
    verdict = rules.pruner.verdict(own, others)
    if verdict is None:
        return None
    return Judgement(verdict, is_audited(rules.pruner, rules.seed, number))


# What is known of the others


def exact_sizes(objectives: Sequence[str], record: TrialRecord) -> tuple[float, ...] | None:
    """The objectives of a trial that are exact before its training; None: nobody stored them."""
    sizes = [record.value(name) for name in exact_names(objectives)]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


class Records:
    """What decisions may know of a study's trials: trained, being trained, or stopped early.

    A finished trial, which cannot change, is looked at once: there may be ten thousand.
    """

    def __init__(self, objectives: Sequence[str], limits: Mapping[str, float]) -> None:
        self._objectives, self._limits = objectives, limits
        self._finished: dict[int, Record | None] = {}

    def beside(
        self, number: int, trials: Iterable[FrozenTrial], constant_loss: float | None
    ) -> list[Record]:
        """The records of all others than trial `number`, and of the constant prediction."""
        found = self.of(trial for trial in trials if trial.number != number)
        if constant_loss is None:
            return found
        return [constant(constant_loss, len(exact_names(self._objectives))), *found]

    def of(self, trials: Iterable[FrozenTrial]) -> list[Record]:
        """The records of trials, without those over a limit: they are no alternative."""
        return [record for record in map(self.one, trials) if record is not None]

    def one(self, trial: FrozenTrial) -> Record | None:
        """The record of a trial; None: it is over a limit, or nothing is known of it yet."""
        if trial.number in self._finished:
            return self._finished[trial.number]
        record = self._record(trial)
        if trial.state.is_finished():
            self._finished[trial.number] = record
        return record

    def _record(self, trial: FrozenTrial) -> Record | None:
        stored = record_of(trial)
        sizes = exact_sizes(self._objectives, stored)
        if sizes is None or not is_feasible(trial, self._objectives, self._limits):
            return None
        curve = {int(step): l2 for step, _, l2 in stored.curve}
        loss = stored.loss if trial.state == TrialState.COMPLETE else None
        return None if not curve and loss is None else Record(sizes, curve, loss)
