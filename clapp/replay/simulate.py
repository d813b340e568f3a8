"""A search on predicted trainings: the same samplers and pruners, on a clock of its own.

Workers are simulated event by event. A decision sees exactly what has happened by its moment of
simulated time; samplers and pruners themselves take no time.
"""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import TrialState

from clapp.config import identity
from clapp.errors import ClappError, ConfigError
from clapp.hypervolume import log_hypervolume
from clapp.replay.surrogate import Run, Surrogate
from clapp.stopping import StoppingRule
from clapp.study.draw import known
from clapp.study.pruners import Pruner, Record, constant, is_audited
from clapp.study.record import RECORD, record_of

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

    from clapp.config import Config
    from clapp.study.plan import Plan

SKIPS_IN_A_ROW = 2000


@dataclass(eq=False)
class Training:
    """A trial being trained, or trained.

    Attributes:
        record: what has been seen of it so far.
        run: what will be.
        start: simulated time.
        ahead: steps of the validations that are to come.
    """

    number: int
    trial: "Trial"
    record: Record
    run: Run
    start: float
    ahead: list[int]
    stopped: bool = False
    audited: bool = False

    def next_time(self) -> float:
        """Simulated time of the next validation."""
        return self.start + self.run.seconds * self.ahead[0] / max(self.run.curve)


@dataclass(frozen=True)
class Outcome:
    """One simulated search.

    Attributes:
        seconds: simulated times at which trials ended, ascending.
        hypervolume: of the trials trained to the end by then.
        stopped: trials stopped early.
        lost: those of them that would have been on the front at the end.
        skipped: draws that were not trained.
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
        """The first time with at least that hypervolume; infinite where it is never reached."""
        place = bisect_left(self.hypervolume, hypervolume)
        return self.seconds[place] if place < len(self.seconds) else math.inf


@dataclass
class Search:
    """A study of `plan` on predicted trainings.

    Attributes:
        mean: the loss of predicting the mean of the targets.
    """

    plan: "Plan"
    surrogate: Surrogate
    sampler: "BaseSampler"
    pruner: Pruner
    mean: float
    seed: int = 0
    skipped: int = 0
    done: list[Training] = field(default_factory=list)
    _keys: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        import optuna

        self._study = optuna.create_study(sampler=self.sampler, directions=["minimize"] * 3)
        self._limits = self.plan.file.limits.given()

    def go(self, seconds: float, workers: int) -> Outcome:
        """Run for `seconds` of simulated time, as `workers` processes would."""
        queue = [self._begin(0.0) for _ in range(workers)]
        ends: list[float] = []
        while True:
            one = min(queue, key=lambda training: (training.next_time(), training.number))
            now = one.next_time()
            if now > seconds:
                return self._outcome(ends)
            if not self._goes_on(one):
                ends.append(now)
                queue[queue.index(one)] = self._begin(now)

    def _begin(self, now: float) -> Training:
        for _ in range(SKIPS_IN_A_ROW):
            trial = self._study.ask()
            config = self._worth_training(trial)
            if config is not None:
                sizes = known(config)
                run = self.surrogate(trial.params, np.array(list(sizes.values())))
                self._note(trial, **{name: int(value) for name, value in sizes.items()})
                record = Record(tuple(sizes.values()))
                steps = _validations(config, run)
                return Training(trial.number, trial, record, run, now, steps)
            self.skipped += 1
            self._study.tell(trial, state=TrialState.PRUNED)
        raise ClappError(f"{SKIPS_IN_A_ROW} draws in a row were skipped")

    def _worth_training(self, trial: "Trial") -> "Config | None":
        drawn = self.plan.space.suggest(trial, self.plan.base)
        try:
            config = self.plan.config(drawn, 0, None)
        except ConfigError:
            return None
        sizes = known(config)
        over = {name: sizes[name] / self._limits[name] - 1 for name in sizes.keys() & self._limits}
        for name, violation in over.items():
            trial.set_constraint(name, violation)
        key = identity(config)
        hopeless = self.pruner.hopeless(tuple(sizes.values()), self._records())
        if key in self._keys or hopeless or any(v > 0 for v in over.values()):
            return None
        self._keys.add(key)
        self._note(trial, key=key)
        return config

    def _note(self, trial: "Trial", **facts: Any) -> None:
        record = replace(record_of(trial), **facts)
        trial.set_user_attr(RECORD, record.document())

    def _records(self) -> list[Record]:
        return [constant(self.mean, 2), *(one.record for one in self.done)]

    def _goes_on(self, one: Training) -> bool:
        """Take in the next validation; False: the trial has ended, and the study knows."""
        step = one.ahead.pop(0)
        before = max(one.record.curve, default=0)
        one.record.curve[step] = one.run.curve[step]
        if not one.ahead:
            self._end(one, one.run.curve[step])
            return False
        if self.pruner.is_rung(before, step) and not one.audited:
            verdict = self.pruner.verdict(one.record, self._records())
            if verdict is not None:
                one.audited = is_audited(self.pruner, self.seed, one.number)
                one.stopped = not one.audited
                name = "stopped" if one.stopped else "audit"
                self._note(one.trial, **{name: verdict._asdict()})
        if one.stopped:
            self._end(one, None)
        return not one.stopped

    def _end(self, one: Training, loss: float | None) -> None:
        step = max(one.record.curve)
        self._note(
            one.trial,
            curve=[[s, 0.0, l2] for s, l2 in one.record.curve.items()],
            iterations=step,
            seconds=one.run.seconds * step / max(one.run.curve),
            loss=loss,
        )
        if loss is None:
            self._study.tell(one.trial, state=TrialState.PRUNED)
        else:
            one.record = Record(one.record.sizes, one.record.curve, loss)
            self._study.tell(one.trial, [loss, *one.record.sizes])
        self.done.append(one)

    def _outcome(self, ends: list[float]) -> Outcome:
        from moocore import is_nondominated  # type: ignore[import-untyped]

        reference = [0.1, *(self._limits[name] for name in ("params", "flops"))]
        volumes, front = [], np.empty((0, 3))
        for one in self.done:
            if one.record.loss is not None:
                front = np.vstack([front, [one.record.loss, *one.record.sizes]])
                front = front[is_nondominated(front)]
            volumes.append(log_hypervolume(front, reference))
        stopped = [one for one in self.done if one.stopped]
        lost = sum(_joins(front, one) for one in stopped)
        return Outcome(ends, volumes, len(stopped), lost, self.skipped)


def _validations(config: "Config", run: Run) -> list[int]:
    """Steps of the validations until the training's own rule ends it."""
    rule, steps = StoppingRule(config.train), []
    for step, l2 in run.curve.items():
        if step % config.train.validation_interval:
            continue
        steps.append(step)
        if rule.update(l2, step) is not None:
            break
    return steps


def _joins(front: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", one: Training) -> bool:
    """Whether a stopped trial would have been on the front had it gone on."""
    end = one.run.curve[(one.ahead or list(one.record.curve))[-1]]
    point = np.array([end, *one.record.sizes])
    return not bool(np.any(np.all(front <= point, axis=1)))
