"""Simulate a search on predicted trainings: real samplers and pruners, simulated time.

Workers are simulated event by event. A decision uses only events before it in simulated time.
Samplers and pruners take no simulated time. Every training starts from fresh weights, as the
recorded ones did, also that of a child whose sampler would have let it inherit.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import TrialState

from clapp.config import differences, identity
from clapp.errors import ClappError, ConfigError
from clapp.front.feasible import violations
from clapp.front.hypervolume import log_hypervolume
from clapp.front.objectives import CONSTANT_LOSS, exact_costs, exact_names, worst_values
from clapp.front.record import RECORD, TrialRecord
from clapp.replay.surrogate import Run, Surrogate
from clapp.study.pruning.decide import (
    Records,
    Rules,
    before_training,
    is_rung,
    judge,
    over_limit,
)
from clapp.study.pruning.history import History
from clapp.study.pruning.pruners import Pruner, Record
from clapp.training.stopping import StoppingRule

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

    from clapp.config import Config
    from clapp.study.plan.plan import Plan

SKIPS_IN_A_ROW = 2000


@dataclass(eq=False)
class Training:
    """A trial in training, or trained.

    Attributes:
        stored: its record in the study.
        own: its record for pruners.
        run: its predicted training.
        start: simulated time.
        ahead: steps of the validations still to come.
    """

    number: int
    trial: "Trial"
    stored: TrialRecord
    own: Record
    run: Run
    start: float
    ahead: list[int]
    stopped: bool = False
    audited: bool = False

    def elapsed(self, step: int) -> float:
        """Simulated seconds from its start to a validation."""
        return self.run.seconds * step / max(self.run.curve)

    def next_time(self) -> float:
        """Simulated time of the next validation."""
        return self.start + self.elapsed(self.ahead[0])

    def note(self, **facts: Any) -> None:
        """Add facts to its record, which is visible to the other trials."""
        self.stored = replace(self.stored, **facts)
        self.trial.set_user_attr(RECORD, self.stored.document())


@dataclass(frozen=True)
class Outcome:
    """One simulated search.

    Attributes:
        seconds: simulated times at which trials ended, ascending.
        hypervolume: hypervolume of the trials trained to the end by these times.
        stopped: trials stopped early.
        lost: stopped trials that would have been on the final front.
        skipped: number of draws that were not trained.
    """

    seconds: list[float]
    hypervolume: list[float]
    stopped: int
    lost: int
    skipped: int

    def at(self, seconds: float) -> float:
        """The hypervolume at a time."""
        place = bisect_right(self.seconds, seconds)
        return self.hypervolume[place - 1] if place else 0.0

    def time_to(self, hypervolume: float) -> float:
        """The first time with at least this hypervolume; infinite if it is never reached."""
        place = bisect_left(self.hypervolume, hypervolume)
        return self.seconds[place] if place < len(self.seconds) else math.inf


@dataclass
class Search:
    """A study of `plan` on predicted trainings."""

    plan: "Plan"
    surrogate: Surrogate
    sampler: "BaseSampler"
    pruner: Pruner
    skipped: int = 0
    done: list[Training] = field(default_factory=list)

    def __post_init__(self) -> None:
        import optuna

        plan = self.plan
        directions = [StudyDirection.MINIMIZE] * len(plan.objectives)
        self.study = optuna.create_study(sampler=self.sampler, directions=directions)
        self.rules = Rules.of(plan, self.pruner)
        self._history, self._records = History(), Records(plan.objectives, plan.limits)

    def go(self, seconds: float, workers: int) -> Outcome:
        """Simulate `workers` processes for `seconds` of simulated time."""
        queue = [self._begin(0.0) for _ in range(workers)]
        ends: list[float] = []
        while True:
            one = min(queue, key=lambda training: (training.next_time(), training.number))
            now = one.next_time()
            if now > seconds:
                return self._outcome(ends)
            if not self._goes_on(one, now):
                ends.append(now)
                queue[queue.index(one)] = self._begin(now)

    def _begin(self, now: float) -> Training:
        for _ in range(SKIPS_IN_A_ROW):
            one = self._training(now)
            if one is not None:
                return one
            self.skipped += 1
        raise ClappError(f"{SKIPS_IN_A_ROW} draws in a row were skipped")

    def _ask(self, now: float) -> tuple["Trial", TrialRecord]:
        """A new trial, and its record: when it began, and what the sampler says it comes from."""
        from clapp.study.sampling.evolution import Proposes

        if not isinstance(self.sampler, Proposes):
            return self.study.ask(), TrialRecord(started=now)
        proposal = self.sampler.propose(self._now().trials)
        self.study.enqueue_trial(proposal.drawn)
        begun = TrialRecord(started=now, parent=proposal.parent, move=proposal.move)
        return self.study.ask(proposal.distributions), begun

    def _training(self, now: float) -> Training | None:
        """Begin the training of a trial; None: the trial is skipped, and its record has the
        reason."""
        trial, begun = self._ask(now)
        drawn = self.plan.space.suggest(trial, self.plan.base)
        try:
            config = self.plan.config(drawn, 0, None)
        except ConfigError as error:
            self._skip(trial, replace(begun, ended=now, skipped=f"invalid: {error}"))
            return None
        sizes = exact_costs(config)
        for name, violation in violations(sizes, self.rules.limits).items():
            trial.set_constraint(name, violation)
        stored = replace(
            begun,
            config=differences(config),
            key=identity(config),
            params=int(sizes["params"]),
            flops=int(sizes["flops"]),
        )
        skip = over_limit(sizes, self.rules.limits) or before_training(
            self.rules, trial.number, stored, self._now(), self._records
        )
        if skip is not None:
            of = skip.duplicate_of
            self._skip(trial, replace(stored, ended=now, skipped=skip.reason, duplicate_of=of))
            return None
        run = self.surrogate(trial.params, np.array([sizes["params"], sizes["flops"]]))
        own = Record(tuple(sizes[name] for name in exact_names(self.plan.objectives)))
        one = Training(trial.number, trial, stored, own, run, now, _validations(config, run))
        one.note()
        return one

    def _skip(self, trial: "Trial", record: TrialRecord) -> None:
        trial.set_user_attr(RECORD, record.document())
        self.study.tell(trial, state=TrialState.PRUNED)

    def _now(self) -> History:
        self._history.read(self.study.get_trials(deepcopy=False))
        return self._history

    def _goes_on(self, one: Training, now: float) -> bool:
        """Handle the next validation; returns False if the trial has ended."""
        step = one.ahead.pop(0)
        one.own.curve[step] = one.run.curve[step]
        judged = one.ahead and not one.audited and self.pruner.judges
        if judged and is_rung(self.rules, one.own.curve):
            self._judge(one)
        if one.ahead and not one.stopped:
            return True
        self._end(one, now)
        return False

    def _judge(self, one: Training) -> None:
        if self.pruner.compares_running:
            one.note(curve=self._curve(one))
        others = self._records.beside(one.number, self._now(), self.rules.constant_loss)
        judgement = judge(self.rules, one.number, one.own, others)
        if judgement is not None:
            one.audited, one.stopped = judgement.audited, not judgement.audited
            name = "audit" if judgement.audited else "stopped"
            one.note(**{name: judgement.verdict._asdict()})

    def _curve(self, one: Training) -> list[list[float]]:
        return [[step, one.elapsed(step), l2] for step, l2 in one.own.curve.items()]

    def _end(self, one: Training, now: float) -> None:
        step = max(one.own.curve)
        loss = None if one.stopped else one.own.curve[step]
        one.note(
            curve=self._curve(one),
            iterations=step,
            seconds=one.elapsed(step),
            ended=now,
            loss=loss,
        )
        if loss is None:
            self.study.tell(one.trial, state=TrialState.PRUNED)
        else:
            one.own = Record(one.own.sizes, one.own.curve, loss)
            self.study.tell(one.trial, [*_values(one, self.plan.objectives).values()])
        self.done.append(one)

    def _outcome(self, ends: list[float]) -> Outcome:
        from moocore import is_nondominated  # type: ignore[import-untyped]

        names = self.plan.objectives
        complete = [_values(one, names) for one in self.done if not one.stopped]
        attributes = {CONSTANT_LOSS: self.plan.constant_loss}
        worst = [*worst_values(names, attributes, self.plan.limits, complete).values()]
        volumes, front = [], np.empty((0, len(names)))
        for one in self.done:
            if not one.stopped:
                front = np.vstack([front, [*_values(one, names).values()]])
                front = front[is_nondominated(front)]
            volumes.append(log_hypervolume(front, worst))
        stopped = [one for one in self.done if one.stopped]
        lost = sum(_joins(front, one, names) for one in stopped)
        return Outcome(ends, volumes, len(stopped), lost, self.skipped)


def _values(one: Training, names: Sequence[str]) -> dict[str, float]:
    """The objectives of a trial; the loss is that at the end of its predicted training."""
    end = one.run.curve[(one.ahead or list(one.own.curve))[-1]]
    values = {"loss": end, "params": one.stored.params, "flops": one.stored.flops}
    return {name: float(values[name] or 0) for name in names}


def _validations(config: "Config", run: Run) -> list[int]:
    """Steps of the validations until the training's stopping rule ends it."""
    rule, steps = StoppingRule(config.train), []
    for step, l2 in run.curve.items():
        if step % config.train.validation_interval:
            continue
        steps.append(step)
        if rule.update(l2, step) is not None:
            break
    return steps


def _joins(front: NDArray[np.float64], one: Training, names: Sequence[str]) -> bool:
    """Whether a stopped trial would be on the front if it had been trained to the end."""
    point = np.array([*_values(one, names).values()])
    return not bool(np.any(np.all(front <= point, axis=1)))
