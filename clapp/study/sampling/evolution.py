"""The default sampler: mutates the best models so far, whose children inherit their weights.

A trial of a small network takes half a second, so a search of a thousand trials takes minutes.
Every trial is either a random draw, the largest small one of a few, or a parent with a few changes
(Real et al. 2019, "Regularized Evolution") that starts from its parent's weights (LEMONADE, Elsken
et al. 2019). A parent is a member of the front, or the best network of another form. What brought
something in this study is tried more often. Sizes are exact before a training, so configurations
over a limit and those already tried are not proposed.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from clapp.config import Config, identity
from clapp.errors import ExhaustedError
from clapp.front.objectives import exact_costs, exact_names
from clapp.front.record import TrialRecord, record_of
from clapp.front.trials import ended_first, is_trained
from clapp.study.pruning.decide import Records
from clapp.study.pruning.pruners import QUANTISATION, Record, is_hopeless
from clapp.study.sampling.at_once import AtOnce
from clapp.study.sampling.credit import Credit, kind
from clapp.study.sampling.draw import Draw, within_limits
from clapp.study.sampling.listed import Listing, listing
from clapp.study.sampling.mutation import MUTATIONS, changed
from clapp.study.sampling.parents import Member, Parents
from clapp.study.sampling.reach import within_reach

if TYPE_CHECKING:
    from clapp.study.pruning.problem import Problem

STARTUP = 24
"""Trials drawn anywhere before anything is changed; none where a study starts from another one."""
ANYWHERE, CHANGED, LISTED = "anywhere", "changed", "listed"
WAYS = {ANYWHERE: 0.2, CHANGED: 0.4, LISTED: 0.4}
"""Shares of random trials, of children with random changes, and of children that differ from their
parent by one change of a fixed list, as long as all bring equally much."""
SMALL = 100
"""The most parameters wanted of a random trial: small networks train fastest, and mutations
grow."""
DRAWS = 4
"""Random draws, of which the largest small one is tried; if none is small, the smallest."""
DIRECTED = 0.6
"""Share of the children by a listed change that are made no larger, if the parent is on the front,
or else larger, as long as one is left: a network off the front is of no use but with a lower
loss."""
OTHER_FORM = 0.4
"""Share of the children of networks of another form than that of the lowest loss."""
TRIES = 400
"""Draws in search of a configuration that is possible, within the limits and new."""
CHOOSY = 50
"""Of them, the first ones that are also passed over where they could not be on the front, as a
model no larger has a loss like rounding to 8 bits."""


class Proposal(Protocol):
    """The interface of a proposed trial; `Candidate` implements it."""

    @property
    def drawn(self) -> dict[str, Any]:
        """The trial's parameters."""
        ...

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The distributions of the parameters."""
        ...

    @property
    def config(self) -> Config:
        """The configuration that the parameters make."""
        ...

    @property
    def parent(self) -> int | None:
        """The number of the trial whose weights it starts from."""
        ...

    @property
    def move(self) -> str | None:
        """The name of the mutation of the parent."""
        ...


@runtime_checkable
class Proposes(Protocol):
    """A sampler that draws a whole configuration before its trial is begun."""

    def propose(self, trials: Sequence[FrozenTrial]) -> Proposal:
        """What to try next."""
        ...


class Parent(NamedTuple):
    """A trial to be changed, and whether it has to grow: it is not on the front."""

    trial: FrozenTrial
    grows: bool


class Candidate(NamedTuple):
    """A configuration that may be tried.

    Attributes:
        drawn: its parameters, and the `distributions` they were drawn from.
        params: weights of its network.
        parent: number of the trial whose weights it starts from, and the `move` that led here.
    """

    drawn: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    config: Config
    params: int
    parent: int | None = None
    move: str | None = None


class Evolution(AtOnce):
    """An Optuna sampler; see the module."""

    def __init__(self, problem: "Problem", seed: int) -> None:
        super().__init__(seed)
        self._problem = problem
        self._weights = problem.space.weights()
        self._records = Records(problem.objectives, problem.limits)
        # Facts about the finished trials.
        self._known: set[int] = set()
        self._ended = 0  # so many of the first ones have ended
        self._tried: set[str | None] = set()
        self._trained = 0
        self._transferred = False
        self._exact: list[Record] = []
        self._parents = Parents(problem)
        self._ways, self._mutations, self._entries = Credit(), Credit(), Credit()
        self._listings: dict[int, Listing] = {}

    def propose(self, trials: Sequence[FrozenTrial]) -> Candidate:
        """What to try next.

        Raises:
            ExhaustedError: no new configuration is possible within the limits; UserError: no
                configuration is, and the message names the limit.
        """
        self._take_in(trials)
        tried = self._tried | {record_of(trial).key for trial in trials[self._ended :]}
        front, near = self._parents.front(), self._parents.near()
        chances = np.array([*WAYS.values()]) * self._ways.weights(WAYS)
        for number in range(TRIES):
            way = self._random.choice([*WAYS], p=chances / chances.sum())
            if way == ANYWHERE or not front or self._is_young():
                found = self._anywhere(tried)
            else:
                found = self._child(self._parent(front), near, tried, way)
            if found is None or identity(found.config) in tried:
                continue
            if number >= CHOOSY or not self._is_hopeless(found):
                return found
        # Few configurations are within the limits, or none: search for one instead of drawing.
        last = self._made(within_reach(self._problem, self._random))
        if last is not None and identity(last.config) not in tried:
            return last
        raise ExhaustedError(
            f"{TRIES} draws in a row were impossible, over a limit or tried before; "
            "nothing new seems to be left in the search space"
        )

    def _take_in(self, trials: Sequence[FrozenTrial]) -> None:
        """Read the newly finished trials; ten thousand may have been read before."""
        for trial in trials[self._ended :]:
            if trial.number in self._known or not trial.state.is_finished():
                continue
            facts, trained, gain = record_of(trial), is_trained(trial), 0.0
            self._known.add(trial.number)
            self._tried.add(facts.key)
            self._trained += trained
            self._transferred |= facts.ancestor is not None
            record = self._records.one(trial) if trial.state == TrialState.COMPLETE else None
            if record is not None and record.loss is not None:
                gain = self._parents.add(trial, record.sizes, record.loss)
                if record.loss <= QUANTISATION:
                    self._exact.append(record)
            if trained:
                self._credit(facts, gain)
        self._ended = ended_first(trials, self._ended)

    def _is_young(self) -> bool:
        """Whether too little is known to change anything."""
        return self._trained < STARTUP and not self._transferred

    def _is_hopeless(self, found: Candidate) -> bool:
        """Whether a model no larger is as good as 8 bits can tell; pruners skip such a trial."""
        if not self._exact:
            return False
        names = exact_names(self._problem.objectives)
        costs = exact_costs(found.config, names)
        return is_hopeless(tuple(costs[name] for name in names), self._exact)

    def _credit(self, facts: TrialRecord, gain: float) -> None:
        """Remember what a trained trial added to the front, with what led to it."""
        if facts.parent is None or facts.move is None:
            if not self._is_young():
                self._ways.add(ANYWHERE, gain)
            return
        self._parents.add_child(facts.parent, gain)
        drawn = facts.move in MUTATIONS
        self._ways.add(CHANGED if drawn else LISTED, gain)
        (self._mutations if drawn else self._entries).add(kind(facts.move), gain)

    def _anywhere(self, tried: set[str | None]) -> Candidate | None:
        """The largest of a few small draws that are new, or the smallest where none is small."""
        draws = [found for _ in range(DRAWS) if (found := self._made({})) is not None]
        new = [found for found in draws if identity(found.config) not in tried]
        small = [found for found in new if found.params <= SMALL]
        if small:
            return max(small, key=lambda found: found.params)
        return min(new, key=lambda found: found.params, default=None)

    def _parent(self, front: Sequence[Member]) -> Parent:
        """A member of the front, which is sorted, or the best network of another form."""
        other = None
        if self._random.random() < OTHER_FORM:
            other = self._parents.of_another_form(self._random)
        if other is None:
            return Parent(self._parents.chosen(front, self._random).trial, grows=False)
        on_front = any(other.trial.number == one.trial.number for one in front)
        return Parent(other.trial, grows=not on_front)

    def _child(
        self, parent: Parent, near: Sequence[Member], tried: set[str | None], way: str
    ) -> Candidate | None:
        """A child of a trial; None: it is impossible."""
        trial = parent.trial
        if way == LISTED:
            return self._neighbour(parent, tried)
        others = [one.trial.params for one in near]
        move, given = changed(
            dict(trial.params),
            trial.distributions,
            others,
            self._weights,
            self._mutations,
            self._random,
        )
        found = self._made(given) if given else None
        return found and found._replace(parent=trial.number, move=move)

    def _neighbour(self, parent: Parent, tried: set[str | None]) -> Candidate | None:
        """A network that is one change of a fixed list away; None: all were tried.

        What makes it no larger is tried first, most of the time, or larger, if it has to grow.
        """
        size = record_of(parent.trial).params or 0
        values, entries = self._listing(parent.trial)
        left = [one for one in entries if one.key not in tried]
        while left:
            first = [one for one in left if (one.params > size) == parent.grows]
            pool = first if first and self._random.random() < DIRECTED else left
            chances = self._entries.weights(kind(entry.words) for entry in pool)
            one = pool[int(self._random.choice(len(pool), p=chances / chances.sum()))]
            left.remove(one)
            found = self._made(self._problem.space.represent({**values, **one.change}))
            # What the search space does not contain is drawn at random instead.
            if found is not None and identity(found.config) == one.key:
                return found._replace(parent=parent.trial.number, move=one.words)
        return None

    def _listing(self, parent: FrozenTrial) -> Listing:
        """What is one change away from a trial; kept, because a front changes slowly."""
        if parent.number not in self._listings:
            self._listings[parent.number] = listing(parent)
        return self._listings[parent.number]

    def _made(self, given: Mapping[str, Any]) -> Candidate | None:
        draw = Draw(self._random, given, self._weights)
        found = within_limits(self._problem, draw, 0)
        if found is None:
            return None
        from clapp.models.costs import cost

        _, config = found
        return Candidate(draw.values, draw.distributions, config, cost(config.model).params)
