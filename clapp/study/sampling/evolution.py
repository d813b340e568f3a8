"""The default sampler: mutates the best models so far, whose children inherit their weights.

A trial of a small network takes half a second, so a search of a thousand trials takes minutes.
Every trial is either a random draw, the largest small one of a few, or a member of the front with a
few changes (Real et al. 2019, "Regularized Evolution") that starts from that member's weights
(LEMONADE, Elsken et al. 2019). Sizes are exact before a training, so configurations over a limit
and those already tried are not proposed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from clapp.config import Config, Layer, compose, flatten, identity, nest
from clapp.errors import ExhaustedError
from clapp.front.objectives import ZERO
from clapp.front.record import record_of
from clapp.front.trials import is_trained
from clapp.models.neighbours import neighbours
from clapp.study.pruning.decide import Records
from clapp.study.sampling.at_once import AtOnce
from clapp.study.sampling.draw import Draw, within_limits
from clapp.study.sampling.mutation import changed
from clapp.study.sampling.reach import within_reach

if TYPE_CHECKING:
    from clapp.study.pruning.problem import Problem

STARTUP = 24
"""Trials drawn anywhere before anything is changed; none where a study starts from another one."""
ANYWHERE = 0.2
"""Share of random trials after that."""
SMALL = 100
"""The most parameters wanted of a random trial: small networks train fastest, and mutations
grow."""
DRAWS = 4
"""Random draws, of which the largest small one is tried; if none is small, the smallest."""
LISTED = 0.5
"""Share of the children that differ from their parent by one change of a fixed list."""
BORDER = "model.padding"
"""The key that changes what a network sees beyond the picture, and no weight."""
NEAR = 25
"""Number of trials near the front with which a parent may be crossed."""
OTHER_FORM = 0.2
"""Share of the children of networks of another form than that of the lowest loss."""
FORM = ("model.activation", "model.output_activation", "model.output_norm")
"""The keys whose values, in any block, are the form of a network: the functions it is made of.

A network of a better form is often worse at first than those that were improved for long, so forms
compete apart, as species do in NEAT (Stanley and Miikkulainen 2002).
"""
SMALLEST_EFFORT = 1e6
"""FLOPs that take as long as all else in a trial."""
PROMISING = 0.5
"""The largest loss of a parent, as a share of the loss of predicting the mean."""
TRIES = 400
"""Draws in search of a configuration that is possible, within the limits and new."""


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

    def propose(self, trials: list[FrozenTrial]) -> Proposal:
        """What to try next."""
        ...


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


class Member(NamedTuple):
    """A finished trial within the limits; `form` holds the keys of `FORM` with their values."""

    trial: FrozenTrial
    sizes: tuple[float, ...]
    loss: float
    form: frozenset[tuple[str, Any]]


class Evolution(AtOnce):
    """An Optuna sampler; see the module."""

    def __init__(self, problem: "Problem", seed: int) -> None:
        super().__init__(seed)
        self._problem = problem
        self._weights = problem.space.weights()
        self._records = Records(problem.objectives, problem.limits)
        # Facts about the finished trials.
        self._known: set[int] = set()
        self._tried: set[str | None] = set()
        self._trained = 0
        self._transferred = False
        self._members: list[Member] = []

    def propose(self, trials: list[FrozenTrial]) -> Candidate:
        """What to try next.

        Raises:
            ExhaustedError: no new configuration is possible within the limits; UserError: no
                configuration is, and the message names the limit.
        """
        self._take_in(trials)
        running = (trial for trial in trials if not trial.state.is_finished())
        tried = self._tried | {record_of(trial).key for trial in running}
        parents, near = self._best()
        for _ in range(TRIES):
            young = not parents or (self._trained < STARTUP and not self._transferred)
            if young or self._random.random() < ANYWHERE:
                found = self._anywhere(tried)
            else:
                other = self._random.random() < OTHER_FORM
                found = self._child(self._other_form() if other else parents, near, tried)
            if found is not None and identity(found.config) not in tried:
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
        for trial in trials:
            if trial.number in self._known or not trial.state.is_finished():
                continue
            self._known.add(trial.number)
            self._tried.add(record_of(trial).key)
            self._trained += is_trained(trial)
            self._transferred |= record_of(trial).ancestor is not None
            record = self._records.one(trial) if trial.state == TrialState.COMPLETE else None
            if record is not None and record.loss is not None:
                form = _form(trial.params)
                self._members.append(Member(trial, record.sizes, record.loss, form))

    def _best(self) -> tuple[list[Member], list[Member]]:
        """The parents, and the trials near the front.

        Parents are the models of the front, except those that are hardly better than predicting the
        mean.
        """
        if not self._members:
            return [], []
        ranks = _ranks(self._members)
        front = [one for one, rank in zip(self._members, ranks, strict=True) if rank == 0]
        nearest = np.argsort(ranks, kind="stable")[: max(NEAR, len(front))]
        return _sorted(self._promising(front) or front), [self._members[i] for i in nearest]

    def _promising(self, members: Sequence[Member]) -> list[Member]:
        worst = self._problem.constant_loss or max(member.loss for member in self._members)
        return [one for one in members if one.loss < PROMISING * worst]

    def _other_form(self) -> list[Member]:
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
        members = others[self._random.choice(len(others), p=chances / chances.sum())]
        ranks = _ranks(members)
        return _sorted(one for one, rank in zip(members, ranks, strict=True) if rank == 0)

    def _anywhere(self, tried: set[str | None]) -> Candidate | None:
        """The largest of a few small draws that are new, or the smallest where none is small."""
        draws = [found for _ in range(DRAWS) if (found := self._made({})) is not None]
        new = [found for found in draws if identity(found.config) not in tried]
        small = [found for found in new if found.params <= SMALL]
        if small:
            return max(small, key=lambda found: found.params)
        return min(new, key=lambda found: found.params, default=None)

    def _child(
        self,
        parents: Sequence[Member],
        near: Sequence[Member],
        tried: set[str | None],
    ) -> Candidate | None:
        """A child of one of the parents, which are sorted; None: it is impossible."""
        if not parents:
            return None
        # A model with a much lower loss than all smaller ones is chosen most, since it is worth
        # shrinking; large networks less often, so that a few of them do not use up the time.
        efforts = np.array([_effort(one) for one in parents])
        chances = (_contributions(parents) + 1 / len(parents)) / efforts
        parent = parents[self._random.choice(len(parents), p=chances / chances.sum())]
        trial = parent.trial
        if self._random.random() < LISTED:
            return self._neighbour(trial, tried)
        others = [one.trial.params for one in near]
        move, given = changed(
            dict(trial.params), trial.distributions, others, self._weights, self._random
        )
        found = self._made(given) if given else None
        return found and found._replace(parent=trial.number, move=move)

    def _neighbour(self, parent: FrozenTrial, tried: set[str | None]) -> Candidate | None:
        """A network that is one change of a fixed list away; None: all were tried.

        On the list is what makes a network smaller or larger, and every other border: a network of
        the right form with the wrong border is no better than many others.
        """
        from clapp.study.storage.heritage import configuration  # loads torch

        config = configuration(record_of(parent))
        flat = flatten(config.model_dump())
        changes = [
            (words, {f"model.{key}": value for key, value in values.items()})
            for _, (words, values) in neighbours(config.model)
        ]
        borders = parent.distributions.get(BORDER)
        if isinstance(borders, CategoricalDistribution):
            changes += [
                (f"border: {choice}", {BORDER: choice})
                for choice in borders.choices
                if choice != parent.params[BORDER]
            ]
        keys = [identity(compose([Layer("a change", nest(flat | new))])) for _, new in changes]
        left = [number for number, key in enumerate(keys) if key not in tried]
        while left:
            number = left.pop(int(self._random.integers(len(left))))
            words, change = changes[number]
            found = self._made(self._problem.space.represent(flat | change))
            # What the search space does not contain is drawn at random instead.
            if found is not None and identity(found.config) == keys[number]:
                return found._replace(parent=parent.number, move=words)
        return None

    def _made(self, given: Mapping[str, Any]) -> Candidate | None:
        draw = Draw(self._random, given, self._weights)
        found = within_limits(self._problem, draw, 0)
        if found is None:
            return None
        from clapp.models.costs import cost

        _, config = found
        return Candidate(draw.values, draw.distributions, config, cost(config.model).params)


def _form(params: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    named = ((key.partition("[")[0], value) for key, value in params.items())
    return frozenset((name, value) for name, value in named if name in FORM and value != "none")


def _ranks(members: Sequence[Member]) -> Any:
    """The non-dominated ranks of members; 0 is the front."""
    from moocore import pareto_rank  # type: ignore[import-untyped]

    return pareto_rank(np.array([(one.loss, *one.sizes) for one in members]))


def _contributions(members: Sequence[Member]) -> NDArray[np.float64]:
    """The share of each member of a front in what is lost of its hypervolume without one of them.

    On log scales, to a point twice as bad as the worst of them.
    """
    from moocore import hv_contributions

    points = np.log10([[max(value, ZERO) for value in (one.loss, *one.sizes)] for one in members])
    found: NDArray[np.float64] = hv_contributions(points, ref=points.max(axis=0) + np.log10(2))
    return found / found.sum() if found.sum() > 0 else found


def _sorted(members: Iterable[Member]) -> list[Member]:
    """Highest loss first; of equal losses the larger network, however the trials ended."""
    return sorted(members, key=lambda one: (-one.loss, *(-size for size in one.sizes)))


def _effort(member: Member) -> float:
    """The estimated effort of training such a network, relative to others.

    Measured seconds are not used: they vary, so a seed would no longer reproduce its trials.
    """
    return float(record_of(member.trial).flops or 0) + SMALLEST_EFFORT
