"""Pruners: rules that stop a trial early, by its learning curve and those of other trials.

A pruner is independent of Optuna and of networks: it judges records. Losses are minimised; sizes
are exact before a training starts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from clapp.config import Section, explain
from clapp.front.objectives import positive
from clapp.system.registry import Registry
from clapp.system.seeding import derived_seed

QUANTISATION = 1 / (12 * 255**2)
"""Mean squared error of rounding to 8 bits: 8-bit targets are no more exact than that.

A network with this loss need not be improved.
"""


@dataclass(frozen=True)
class Record:
    """A trial as pruners see it.

    Attributes:
        sizes: the exact objectives, such as parameters and FLOPs.
        curve: optimiser steps -> validation L2.
        loss: loss at the end of the training; None while it runs, or if it was stopped.
    """

    sizes: tuple[float, ...]
    curve: dict[int, float] = field(default_factory=dict)
    loss: float | None = None

    def fits_in(self, sizes: tuple[float, ...]) -> bool:
        """Whether it is no larger than `sizes` in any objective."""
        return all(own <= other for own, other in zip(self.sizes, sizes, strict=True))


class Verdict(NamedTuple):
    """Why a trial is stopped.

    Attributes:
        step: where it was judged, with validation loss `l2`.
        bar: the loss that the trial must beat; `predicted`: the optimistic final loss. Both are NaN
            for pruners that do not compute them.
    """

    step: int
    l2: float
    bar: float
    predicted: float


class Pruner(Section):
    """The interface of pruners; fields are settings. `register_pruner` adds another one."""

    judges: ClassVar[bool] = True
    """Whether the pruner ever stops or skips trials."""
    compares_running: ClassVar[bool] = False
    """Whether the pruner uses curves of running trials, which then have to be stored."""
    name: str
    """Name in study files."""
    audit: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the trials due to be stopped that run on, to measure what stopping costs."""

    def hopeless(self, sizes: tuple[float, ...], others: Sequence[Record]) -> bool:  # noqa: ARG002
        """Whether a network of these sizes need not be trained at all."""
        return False

    def is_rung(self, before: int, step: int) -> bool:
        """Whether trials are judged after `step` steps, the validation before being at `before`."""
        raise NotImplementedError

    def verdict(self, trial: Record, others: Sequence[Record]) -> Verdict | None:
        """Judge a trial at the last point of its curve, which is a rung; None: the trial goes
        on."""
        raise NotImplementedError


class Nothing(Pruner):
    """Every trial is trained to its end."""

    judges: ClassVar[bool] = False
    name: Literal["none"] = "none"

    def is_rung(self, before: int, step: int) -> bool:  # noqa: ARG002
        """Never: no trial is judged."""
        return False


class Rungs(Pruner):
    """Trials are judged at `warmup`, `warmup * eta`, `warmup * eta**2`, ... steps.

    Where no validation falls on a rung, the first one after it counts.
    """

    warmup: Annotated[int, Field(gt=0)] = 100
    eta: Annotated[int, Field(gt=1)] = 2
    audit: Annotated[float, Field(ge=0, le=1)] = 0.05

    def is_rung(self, before: int, step: int) -> bool:
        """Whether a rung lies after `before` and no later than `step`."""
        rung = self.warmup
        while rung <= before:
            rung *= self.eta
        return rung <= step


class Front(Rungs):
    """Stops a trial whose loss cannot become the lowest of its size.

    Sizes are exact before training, so the loss to beat is known: the lowest among the finished
    trials that are no larger in any size. Larger trials do not count. Predicting the mean counts as
    a network of size zero, so there is a loss to beat for the smallest network too. How far a loss
    may still fall is estimated from the finished trials with the most similar losses at the same
    step: a low quantile of the ratio of their final loss to their loss at that step. A child that
    inherits weights and begins near its final loss falls little, while a network that still
    predicts the mean may fall a thousandfold.
    """

    name: Literal["front"] = "front"
    warmup: Annotated[int, Field(gt=0)] = 200
    min_finished: Annotated[int, Field(ge=1)] = 10
    """Number of trials with a loss at the same step and at the end before any trial is stopped."""
    alike: Annotated[int, Field(ge=1)] = 40
    """Number of finished trials, those with the nearest loss at the same step on a log scale."""
    quantile: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Quantile of their falls in loss; 0: the largest fall among them."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Stop only if the optimistic final loss exceeds the lowest known one by this share.

    A few curves fall faster than any seen before.
    """

    def hopeless(self, sizes: tuple[float, ...], others: Sequence[Record]) -> bool:
        """Whether a model no larger has a loss as low as the rounding error of the targets."""
        return is_hopeless(sizes, others)

    def verdict(self, trial: Record, others: Sequence[Record]) -> Verdict | None:
        """Judge a trial by its optimistic final loss."""
        step, l2 = max(trial.curve.items())
        finished = finished_from(step, others)
        if len(finished) < self.min_finished:
            return None
        distance = np.abs(np.log(finished[:, 0] / positive(l2)))
        nearest = finished[np.argsort(distance, kind="stable")[: self.alike]]
        falls = nearest[:, 1] / nearest[:, 0]
        found = Verdict(
            step, l2, bar(trial.sizes, others), l2 * float(np.quantile(falls, self.quantile))
        )
        return found if found.predicted * (1 - self.margin) > found.bar else None


def is_hopeless(sizes: tuple[float, ...], others: Iterable[Record]) -> bool:
    """Whether a model no larger is as good as 8 bits can tell."""
    return any(r.loss is not None and r.loss <= QUANTISATION and r.fits_in(sizes) for r in others)


def finished_from(step: int, records: Iterable[Record]) -> NDArray[np.float64]:
    """Losses (n, 2) of finished trials at a step and at the end; zero counts as `ZERO`."""
    finished = ((r.curve[step], r.loss) for r in records if r.loss is not None and step in r.curve)
    losses = [(positive(l2), positive(loss)) for l2, loss in finished]
    return np.array(losses, float).reshape(-1, 2)


class MOASHA(Rungs):
    """Asynchronous successive halving for several objectives (Schmucker et al., 2021).

    At each rung a trial goes on if it is among the best 1/eta of all trials that reached the rung,
    itself included. They are ordered by non-dominated rank in loss and sizes (Deb et al., 2002),
    and within a rank by crowding distance, largest first.
    """

    compares_running: ClassVar[bool] = True
    name: Literal["mo-asha"] = "mo-asha"

    def verdict(self, trial: Record, others: Sequence[Record]) -> Verdict | None:
        """Judge a trial by its rank among those that reached the same rung."""
        from moocore import pareto_rank  # type: ignore[import-untyped]

        step, l2 = max(trial.curve.items())
        points = np.array(
            [(r.curve[step], *r.sizes) for r in (trial, *others) if step in r.curve], float
        )
        ranks = pareto_rank(points)
        tied = np.flatnonzero(ranks == ranks[0])
        solitary = crowding_distance(points[tied])
        better = np.sum(ranks < ranks[0]) + np.sum(solitary > solitary[0])
        promoted = better < max(len(points) // self.eta, 1)
        return None if promoted else Verdict(step, l2, float("nan"), float("nan"))


def crowding_distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The crowding distance of NSGA-II for each of (n, m) points; infinite for end points."""
    total = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        if span > 0:
            total[order[[0, -1]]] = np.inf
            total[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return total


def bar(sizes: tuple[float, ...], others: Sequence[Record]) -> float:
    """The lowest final loss among records no larger than `sizes`; infinite if there are none."""
    return min(
        (r.loss for r in others if r.loss is not None and r.fits_in(sizes)), default=float("inf")
    )


def constant(mean: float, sizes: int) -> Record:
    """A record of predicting the mean of the targets, with loss `mean` and size zero."""
    return Record((0.0,) * sizes, {}, mean)


def is_audited(pruner: Pruner, seed: int, number: int) -> bool:
    """Whether trial `number`, due to be stopped, runs on as a sample that shows what is lost."""
    return derived_seed(seed, "audit", number) < pruner.audit * 2**31


PRUNERS: Registry[type[Pruner]] = Registry("pruner")


def register_pruner(kind: type[Pruner]) -> type[Pruner]:
    """A decorator that registers a pruner under the default of its field `name`, for study files.

    Args:
        kind: a subclass of `Pruner` with a field `name: Literal["mine"] = "mine"`.

    Raises:
        UserError: the name is taken, or not a name.
    """
    return PRUNERS.add(kind.model_fields["name"].default, kind)


register_pruner(Nothing)
register_pruner(Front)
register_pruner(MOASHA)


def parse(value: Any) -> Pruner:
    """Read a pruner from a study file: its name, or a mapping of `name` and settings.

    Raises:
        ValueError: no such pruner, or a setting it does not have.
    """
    if isinstance(value, Pruner):
        return value
    settings = value if isinstance(value, dict) else {"name": value}
    name = settings.get("name")
    if not isinstance(name, str) or name not in PRUNERS:
        raise ValueError(f"{name!r} is not allowed; allowed: {', '.join(PRUNERS)}")
    model = PRUNERS[name]
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        raise ValueError(explain(error, model, [(name, settings)])) from error
