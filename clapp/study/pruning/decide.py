"""The decisions of a search: which trials are skipped, stopped early, or within the limits.

They are pure functions of a study's rules and of its trials. Running studies and replays of
recorded curves share them, so a replay of a recorded study decides as the study did.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from clapp.front.feasible import is_feasible, violations
from clapp.front.objectives import exact_names
from clapp.front.record import TrialRecord, record_of
from clapp.front.trials import SURPLUS
from clapp.study.pruning.history import History
from clapp.study.pruning.problem import Problem
from clapp.study.pruning.pruners import Pruner, Record, Verdict, constant, is_audited


@dataclass(frozen=True)
class Rules:
    """The settings of a study on which its decisions depend.

    Attributes:
        objectives: names of the objectives, in the order of the trials' values.
        limits: objective -> the largest value allowed at present.
        seed: the study's seed.
        budget: trials to train; None: no end.
        max_retry: how often a configuration whose worker was killed is tried again.
        constant_loss: loss of the best constant prediction; None: unknown.
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

        Baselines are never stopped: the user asked for them, and the reference is the yardstick.
        """
        return record.baseline is None and self.pruner.judges


class Skip(NamedTuple):
    """Why a trial is not trained, and the trial that it repeats."""

    reason: str
    duplicate_of: int | None = None


class Judgement(NamedTuple):
    """A pruner's verdict. An audited trial runs on, as a sample that shows what stopping costs."""

    verdict: Verdict
    audited: bool


# Limits


def over_limit(values: Mapping[str, float], limits: Mapping[str, float]) -> Skip | None:
    """Skip a trial that exceeds limits; the reason names the limit exceeded most."""
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
    history: History,
    records: "Records",
) -> Skip | None:
    """The reason to skip trial `number`, which is within the limits; None: train it.

    Args:
        record: the record of the trial, with its key and its sizes.
        history: all present trials of the study.
    """
    budget, max_retry = rules.budget, rules.max_retry
    if budget is not None and history.is_surplus(number, budget, max_retry):
        return Skip(SURPLUS)
    original = history.duplicate(number, record)
    if original is not None:
        return Skip("duplicate", original)
    sizes = exact_sizes(rules.objectives, record)
    if rules.is_judged(record) and sizes is not None:
        others = records.beside(number, history, rules.constant_loss)
        if rules.pruner.hopeless(sizes, others):
            return Skip("hopeless: a model no larger is as good as 8 bits can tell")
    return None


# While it trains


def is_rung(rules: Rules, curve: Mapping[int, float]) -> bool:
    """Whether a trial is judged at the last point of its curve, step -> validation L2."""
    *_, before, step = (0, *sorted(curve))
    return rules.pruner.is_rung(before, step)


def judge(rules: Rules, number: int, own: Record, others: Sequence[Record]) -> Judgement | None:
    """Judge a trial at the last point of its curve, which is a rung; None: the trial goes on.

    Args:
        own: the record of the trial, with its curve so far.
        others: see `Records.beside`.
    """
    verdict = rules.pruner.verdict(own, others)
    if verdict is None:
        return None
    return Judgement(verdict, is_audited(rules.pruner, rules.seed, number))


# What is known of the others


def exact_sizes(objectives: Sequence[str], record: TrialRecord) -> tuple[float, ...] | None:
    """The objectives of a trial that are exact before its training; None: they are not stored."""
    sizes = [record.value(name) for name in exact_names(objectives)]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


class Records:
    """Records for pruners of the trials that are trained, in training, or stopped early.

    Finished trials never change, and there may be ten thousand, so each is read once.
    """

    def __init__(self, objectives: Sequence[str], limits: Mapping[str, float]) -> None:
        self._objectives, self._limits = objectives, limits
        self._finished: dict[int, Record | None] = {}
        # Of the trials before the first that has not ended, of which `_read` were read.
        self._ended: list[Record] = []
        self._read = 0

    def beside(self, number: int, history: History, constant_loss: float | None) -> list[Record]:
        """The records of all trials but `number`, and a record of the constant prediction."""
        self._ended += self.of(history.trials[self._read : history.ended])
        self._read = history.ended
        found = self._ended + self.of(one for one in history.open if one.number != number)
        if constant_loss is None:
            return found
        return [constant(constant_loss, len(exact_names(self._objectives))), *found]

    def of(self, trials: Iterable[FrozenTrial]) -> list[Record]:
        """The records of trials within the limits; the others are no alternatives."""
        return [record for record in map(self.one, trials) if record is not None]

    def one(self, trial: FrozenTrial) -> Record | None:
        """The record of a trial; None: it exceeds a limit, or nothing is known about it yet."""
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
