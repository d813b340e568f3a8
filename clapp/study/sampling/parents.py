"""The finished trials that a search may change, and the choice of one of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from clapp.front.objectives import ZERO
from clapp.front.record import record_of

if TYPE_CHECKING:
    from moocore import Hypervolume  # type: ignore[import-untyped]

    from clapp.study.pruning.problem import Problem

NEAR = 25
"""Number of trials near the front with which a parent may be crossed."""
FORM = ("model.activation", "model.output_activation", "model.output_norm")
"""The keys whose values, in any block, are the form of a network: the functions it is made of.

A network of a better form is often worse at first than those that were improved for long, so forms
compete apart, as species do in NEAT (Stanley and Miikkulainen 2002).
"""
FAIR = 10
"""So many children halve the chance of a form, beside others of the same rank."""
SMALLEST_EFFORT = 6e6
"""FLOPs that take as long as all else in a trial, by the seconds of 3,000 trials."""
UNIFORM = 0.3
"""Chance that a parent is chosen whatever it might gain, relative to that of all gains."""
HALF = float(np.log10(2))
"""How much better than its parent a child is imagined: twice, on log scales."""
GUESSED = 4
"""How many children what a parent is imagined to gain counts for, beside what its children did
gain. A network that cannot be improved, and one with a border that no child can cross, are left
alone after some; where all networks are bad, small steps count."""
PROMISING = 0.5
"""The largest loss of a parent, as a share of the loss of predicting the mean. Nobody wants those
above it, though they are quickly trained and their children add to the hypervolume."""
FEWEST = 4
"""Parents at least, those of the lowest losses, promising or not.

Of one alone, such as a large baseline, all children would be as large, and take as long.
"""


Form = frozenset[tuple[str, Any]]


class Member(NamedTuple):
    """A finished trial within the limits; `form` holds the keys of `FORM` with their values."""

    trial: FrozenTrial
    sizes: tuple[float, ...]
    loss: float
    form: Form


class Parents:
    """The finished trials within the limits.

    Where a method returns parents, those are left out that are hardly better than predicting the
    mean, but for a few, and they are sorted as `chosen` expects: highest loss first.
    """

    def __init__(self, problem: "Problem") -> None:
        self._problem = problem
        self._members: list[Member] = []
        self._ranks: NDArray[np.int_] | None = None
        self._points: NDArray[np.float64] | None = None  # the front, as of `_logarithms`
        self._children: dict[int, list[float]] = defaultdict(list)
        self._forms: dict[int, Form] = {}  # of each trial
        self._best: dict[Form, Member] = {}  # of each form
        self._of_form: Counter[Form | None] = Counter()  # children

    def add(self, trial: FrozenTrial, sizes: tuple[float, ...], loss: float) -> float:
        """A trial that was trained to its end.

        Returns:
            The hypervolume that it adds to the front, on log scales.
        """
        member = Member(trial, sizes, loss, _form(trial.params))
        self._members.append(member)
        self._ranks = None
        self._forms[trial.number] = member.form
        best = self._best.get(member.form)
        if best is None or _order(member) > _order(best):
            self._best[member.form] = member
        point = _logarithms([member])
        before = point[:0] if self._points is None else self._points
        if np.any(np.all(before <= point, axis=1)):
            return 0.0
        self._points = np.vstack([before[np.any(before < point, axis=1)], point])
        volume = _volume(np.vstack([before, point]))
        return float(volume(self._points)) - (float(volume(before)) if len(before) else 0.0)

    def add_child(self, parent: int, gain: float) -> None:
        """A child of trial `parent` ended, and added so much hypervolume to the front."""
        self._children[parent].append(gain)
        self._of_form[self._forms.get(parent)] += 1

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

    def of_another_form(self, random: np.random.Generator) -> Member | None:
        """The network of the lowest loss of one form; None if there is but one form.

        The form with the second lowest loss is chosen twice as often as the third, and so on, if
        their networks take as long; less often, the more children it has had.
        """
        lowest_first = _sorted(self._promising([*self._best.values()]))[::-1]
        others = lowest_first[1:]
        if not others:
            return None
        efforts = np.array([_effort(one) for one in others])
        children = np.array([self._of_form[one.form] for one in others])
        chances = 1 / np.arange(1, len(others) + 1) / efforts / (1 + children / FAIR)
        return others[random.choice(len(others), p=chances / chances.sum())]

    def chosen(self, parents: Sequence[Member], random: np.random.Generator) -> Member:
        """One of some parents.

        A model with a much lower loss than all smaller ones is chosen most, since it is worth
        shrinking, until its children do not gain what was imagined; large networks less often, so
        that a few of them do not use up the time.
        """
        known = [self._children.get(one.trial.number, []) for one in parents]
        gained = np.array([sum(gains) for gains in known])
        count = np.array([len(gains) for gains in known])
        expected = (gained + GUESSED * _imagined(parents)) / (count + GUESSED)
        shares = expected / expected.sum() if expected.sum() > 0 else expected
        efforts = np.array([_effort(one) for one in parents])
        chances = (shares + UNIFORM / len(parents)) / efforts
        return parents[random.choice(len(parents), p=chances / chances.sum())]

    def _ranked(self) -> NDArray[np.int_]:
        if self._ranks is None:
            self._ranks = _ranks(self._members)
        return self._ranks

    def _promising(self, members: Sequence[Member]) -> list[Member]:
        worst = self._problem.constant_loss or max(
            (member.loss for member in self._members), default=0.0
        )
        return [one for one in members if one.loss < PROMISING * worst]


def _form(params: Mapping[str, Any]) -> Form:
    named = ((key.partition("[")[0], value) for key, value in params.items())
    return frozenset((name, value) for name, value in named if name in FORM and value != "none")


def _ranks(members: Sequence[Member]) -> NDArray[np.int_]:
    """The non-dominated ranks of members; 0 is the front."""
    if not members:
        return np.zeros(0, int)
    from moocore import pareto_rank

    ranks: NDArray[np.int_] = pareto_rank(np.array([(one.loss, *one.sizes) for one in members]))
    return ranks


def _imagined(members: Sequence[Member]) -> NDArray[np.float64]:
    """What each member of a front might gain by its next child.

    That is the hypervolume, on log scales, that a child adds to the front if it is half as large at
    the same loss, and that of a child of half the loss. The hypervolume lost without a member would
    not do: of two members that are nearly alike, none adds much, yet both may be worth shrinking.
    """
    points = _logarithms(members)
    volume = _volume(points)
    before = volume(points)
    loss_only = np.where(np.arange(points.shape[1]) == 0, HALF, 0.0)
    return np.array(
        [
            sum(
                volume(np.vstack([points, point - step])) - before
                for step in (loss_only, HALF - loss_only)
            )
            for point in points
        ]
    )


def _logarithms(members: Sequence[Member]) -> NDArray[np.float64]:
    """(n, 1 + sizes): losses and sizes to base 10."""
    return np.log10([[max(value, ZERO) for value in (one.loss, *one.sizes)] for one in members])


def _volume(points: NDArray[np.float64]) -> "Hypervolume":
    """The hypervolume up to a point that is a little worse than all of these."""
    from moocore import Hypervolume

    return Hypervolume(ref=points.max(axis=0) + HALF)


def _sorted(members: Iterable[Member]) -> list[Member]:
    """Highest loss first; of equal losses the larger network, however the trials ended."""
    return sorted(members, key=_order)


def _order(member: Member) -> tuple[float, ...]:
    return -member.loss, *(-size for size in member.sizes)


def _effort(member: Member) -> float:
    """The estimated effort of training such a network, relative to others.

    Measured seconds are not used: they vary, so a seed would no longer reproduce its trials.
    """
    return float(record_of(member.trial).flops or 0) + SMALLEST_EFFORT
