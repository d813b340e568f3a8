"""When a trial is stopped early, from its curve and those of the others.

A pruner knows nothing of Optuna or of networks: it judges records. Losses are minimised, sizes are
exact before a training starts.
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
"""Mean squared error of rounding to 8 bits: targets are known no better than that.

A network that is as good need not be bettered; its loss is still a number, see `ZERO` for what has
no logarithm.
"""


@dataclass(frozen=True)
class Record:
    """What a pruner knows of a trial.

    Attributes:
        sizes: its exact objectives, such as parameters and FLOPs.
        curve: optimiser steps -> validation L2.
        loss: at the end of its training; None while it runs, or when it was stopped.
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
        bar: the loss it would have to reach, `predicted` the one that it may hope for; NaN where a
            pruner has no such notion.
    """

    step: int
    l2: float
    bar: float
    predicted: float


class Pruner(Section):
    """What a study asks; its settings are its fields. One of your own: see `register_pruner`."""

    judges: ClassVar[bool] = True
    """Whether it ever stops or skips anything."""
    compares_running: ClassVar[bool] = False
    """Whether it looks at the curves of trials that still run, which must then be stored."""
    name: str
    """In study files."""
    audit: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the trials due to be stopped that run on, to see what stopping costs."""

    def hopeless(self, sizes: tuple[float, ...], others: Sequence[Record]) -> bool:  # noqa: ARG002
        """Whether a network of these sizes need not be trained at all."""
        return False

    def is_rung(self, before: int, step: int) -> bool:
        """Whether trials are judged after `step` steps, the validation before being at `before`."""
        raise NotImplementedError

    def verdict(self, trial: Record, others: Sequence[Record]) -> Verdict | None:
        """Judge a trial at the last point of its curve, a rung; None: it goes on."""
        raise NotImplementedError


class Nothing(Pruner):
    """Every trial is trained to its end."""

    judges: ClassVar[bool] = False
    name: Literal["none"] = "none"

    def is_rung(self, before: int, step: int) -> bool:  # noqa: ARG002
        """Nothing is judged."""
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
    trials that are no larger in any size. A trial is compared with nothing else: not with larger
    ones, which it may well lose to, and the smallest network is no exception, for predicting the
    mean costs nothing and sets a bar to everybody. How far a loss may still fall is taken from the
    finished trials whose loss at the same step was most alike: a low quantile of their final loss
    over their loss there. A child that begins near the floor has little left to fall, while a
    network on the plateau of predicting the mean may fall a thousandfold.
    """

    name: Literal["front"] = "front"
    warmup: Annotated[int, Field(gt=0)] = 200
    min_finished: Annotated[int, Field(ge=1)] = 10
    """Trials with a loss at the same step and at the end, before anything is stopped."""
    alike: Annotated[int, Field(ge=1)] = 40
    """Finished trials whose loss at the same step is nearest, on a log scale."""
    quantile: Annotated[float, Field(ge=0, le=1)] = 0.05
    """0: the largest fall of a loss that was seen among them."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Stop only if the optimistic final loss exceeds the lowest known one by this share.

    A few curves fall faster than any seen before.
    """

    def hopeless(self, sizes: tuple[float, ...], others: Sequence[Record]) -> bool:
        """Whether something no larger is as good as the targets are exact."""
        return any(
            r.loss is not None and r.loss <= QUANTISATION and r.fits_in(sizes) for r in others
        )

    def verdict(self, trial: Record, others: Sequence[Record]) -> Verdict | None:
        """Judge a trial by the lowest loss it may hope for."""
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


def finished_from(step: int, records: Iterable[Record]) -> NDArray[np.float64]:
    """Losses (n, 2) of finished trials at a step and at the end; zero counts as `ZERO`."""
    finished = ((r.curve[step], r.loss) for r in records if r.loss is not None and step in r.curve)
    losses = [(positive(l2), positive(loss)) for l2, loss in finished]
    return np.array(losses, float).reshape(-1, 2)


class MOASHA(Rungs):
    """Asynchronous successive halving for several objectives (Schmucker et al., 2021).

    At each rung a trial goes on when it is in the best 1/eta of all trials that came that far,
    itself included: in order of non-dominated rank in loss and sizes (Deb et al., 2002), within a
    rank the more solitary ones first.
    """

    compares_running: ClassVar[bool] = True
    name: Literal["mo-asha"] = "mo-asha"

    def verdict(self, trial: Record, others: Sequence[Record]) -> Verdict | None:
        """Judge a trial by its place among those that reached the same rung."""
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
    """How far the neighbours of each of (n, m) points are, as NSGA-II measures it; ends: inf."""
    total = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        if span > 0:
            total[order[[0, -1]]] = np.inf
            total[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return total


def bar(sizes: tuple[float, ...], others: Sequence[Record]) -> float:
    """The lowest final loss among records no larger than `sizes`; infinite where there is none."""
    return min(
        (r.loss for r in others if r.loss is not None and r.fits_in(sizes)), default=float("inf")
    )


def constant(mean: float, sizes: int) -> Record:
    """Predicting the mean of the targets, of L2 `mean`: no size at all, and a bar to everybody."""
    return Record((0.0,) * sizes, {}, mean)


def is_audited(pruner: Pruner, seed: int, number: int) -> bool:
    """Whether trial `number`, due to be stopped, runs on as a sample of what is lost."""
    return derived_seed(seed, "audit", number) < pruner.audit * 2**31


PRUNERS: Registry[type[Pruner]] = Registry("pruner")


def register_pruner(kind: type[Pruner]) -> type[Pruner]:
    """Make a pruner known to study files, by the default of its field `name`; a decorator.

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
    """A pruner as a study file writes it: its name, or a mapping of `name` and its settings.

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
