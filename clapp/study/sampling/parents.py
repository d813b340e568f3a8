"""The finished trials that a search may change, and the choice of one of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from clapp.front.objectives import ZERO
from clapp.front.record import record_of

if TYPE_CHECKING:
    from clapp.study.pruning.problem import Problem

NEAR = 25
"""Number of trials near the front with which a parent may be crossed."""
FORM = ("model.activation", "model.output_activation", "model.output_norm")
"""The keys whose values, in any block, are the form of a network: the functions it is made of.

A network of a better form is often worse at first than those that were improved for long, so forms
compete apart, as species do in NEAT (Stanley and Miikkulainen 2002).
"""
SMALLEST_EFFORT = 6e6
"""FLOPs that take as long as all else in a trial, by the seconds of 3,000 trials."""
UNIFORM = 0.3
"""Chance that a parent is chosen whatever it might gain, relative to that of all gains."""
HALF = float(np.log10(2))
"""How much better than its parent a child is imagined: twice, on log scales."""
PROMISING = 0.5
"""The largest loss of a parent, as a share of the loss of predicting the mean."""
FEWEST = 4
"""Parents at least, those of the lowest losses, promising or not.

Of one alone, such as a large baseline, all children would be as large, and take as long.
"""


class Member(NamedTuple):
    """A finished trial within the limits; `form` holds the keys of `FORM` with their values."""

    trial: FrozenTrial
    sizes: tuple[float, ...]
    loss: float
    form: frozenset[tuple[str, Any]]


class Parents:
    """The finished trials within the limits.

    Where a method returns parents, those are left out that are hardly better than predicting the
    mean, but for a few, and they are sorted as `chosen` expects: highest loss first.
    """

    def __init__(self, problem: "Problem") -> None:
        self._problem = problem
        self._members: list[Member] = []
        self._ranks: NDArray[np.int_] | None = None

    def add(self, trial: FrozenTrial, sizes: tuple[float, ...], loss: float) -> None:
        """A trial that ended."""
        self._members.append(Member(trial, sizes, loss, _form(trial.params)))
        self._ranks = None

    def front(self) -> list[Member]:
        """The parents on the front; if none is better than the mean, its models all the same."""
        front = _sorted(
            one for one, rank in zip(self._members, self._ranked(), strict=True) if rank == 0
        )
        promising = len(self._promising(front)) or len(front)
        return front[-max(promising, FEWEST) :]

    def near(self) -> list[Member]:
        """The trials of the front and those next to it, nearest first."""
        ranks = self._ranked()
        count = max(NEAR, np.count_nonzero(ranks == 0))
        return [self._members[number] for number in np.argsort(ranks, kind="stable")[:count]]

    def of_another_form(self, random: np.random.Generator) -> list[Member]:
        """The front of one form; empty if there is but one form.

        The form with the second lowest loss is chosen twice as often as the third, and so on, if
        their smallest networks take as long.
        """
        forms: dict[frozenset[tuple[str, Any]], list[Member]] = {}
        for one in _sorted(self._promising(self._members))[::-1]:  # lowest loss first
            forms.setdefault(one.form, []).append(one)
        others = list(forms.values())[1:]
        if not others:
            return []
        efforts = np.array([min(map(_effort, members)) for members in others])
        chances = 1 / np.arange(1, len(others) + 1) / efforts
        members = others[random.choice(len(others), p=chances / chances.sum())]
        ranks = _ranks(members)
        return _sorted(one for one, rank in zip(members, ranks, strict=True) if rank == 0)

    def _ranked(self) -> NDArray[np.int_]:
        if self._ranks is None:
            self._ranks = _ranks(self._members)
        return self._ranks

    def _promising(self, members: Sequence[Member]) -> list[Member]:
        worst = self._problem.constant_loss or max(
            (member.loss for member in self._members), default=0.0
        )
        return [one for one in members if one.loss < PROMISING * worst]


def chosen(parents: Sequence[Member], random: np.random.Generator) -> Member:
    """One of the parents.

    A model with a much lower loss than all smaller ones is chosen most, since it is worth
    shrinking; large networks less often, so that a few of them do not use up the time.
    """
    efforts = np.array([_effort(one) for one in parents])
    chances = (_gains(parents) + UNIFORM / len(parents)) / efforts
    return parents[random.choice(len(parents), p=chances / chances.sum())]


def _form(params: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    named = ((key.partition("[")[0], value) for key, value in params.items())
    return frozenset((name, value) for name, value in named if name in FORM and value != "none")


def _ranks(members: Sequence[Member]) -> NDArray[np.int_]:
    """The non-dominated ranks of members; 0 is the front."""
    if not members:
        return np.zeros(0, int)
    from moocore import pareto_rank  # type: ignore[import-untyped]

    ranks: NDArray[np.int_] = pareto_rank(np.array([(one.loss, *one.sizes) for one in members]))
    return ranks


def _gains(members: Sequence[Member]) -> NDArray[np.float64]:
    """The share of each member of a front in what it might gain by its next child.

    That is the hypervolume, on log scales, that a child adds to the front if it is half as large at
    the same loss, and that of a child of half the loss. The hypervolume lost without a member would
    not do: of two members that are nearly alike, none adds much, yet both may be worth shrinking.
    """
    from moocore import Hypervolume

    points = np.log10([[max(value, ZERO) for value in (one.loss, *one.sizes)] for one in members])
    volume = Hypervolume(ref=points.max(axis=0) + HALF)
    before = volume(points)
    loss_only = np.where(np.arange(points.shape[1]) == 0, HALF, 0.0)
    found = np.array(
        [
            sum(
                volume(np.vstack([points, point - step])) - before
                for step in (loss_only, HALF - loss_only)
            )
            for point in points
        ]
    )
    return found / found.sum() if found.sum() > 0 else found


def _sorted(members: Iterable[Member]) -> list[Member]:
    """Highest loss first; of equal losses the larger network, however the trials ended."""
    return sorted(members, key=lambda one: (-one.loss, *(-size for size in one.sizes)))


def _effort(member: Member) -> float:
    """The estimated effort of training such a network, relative to others.

    Measured seconds are not used: they vary, so a seed would no longer reproduce its trials.
    """
    return float(record_of(member.trial).flops or 0) + SMALLEST_EFFORT
