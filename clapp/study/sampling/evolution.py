"""The default sampler: changes what is best so far, and lets children inherit its weights.

A trial of a small network takes half a second, so that a thousand of them are a search of
minutes. Every trial is either drawn anywhere, the smallest of a few draws, or it is a member of the
front with a few changes (Real et al. 2019, "Regularized Evolution"), and then starts from that
member's weights (LEMONADE, Elsken et al. 2019). Sizes are exact before a training: what a limit
forbids, or what was tried before, is not proposed.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from clapp.config import Config, Layer, compose, flatten, identity, nest
from clapp.errors import ExhaustedError
from clapp.front.record import record_of
from clapp.front.trials import is_enqueued, is_trained
from clapp.models.smaller import smaller
from clapp.study.pruning.decide import Records
from clapp.study.sampling.draw import Draw, value, within_limits
from clapp.study.sampling.mutation import changed
from clapp.study.sampling.reach import within_reach

if TYPE_CHECKING:
    from clapp.study.pruning.problem import Problem

STARTUP = 40
"""Trials drawn anywhere before anything is changed."""
ANYWHERE = 0.15
"""Share of the trials that are drawn anywhere after that."""
SMALL = 100
"""Parameters of what is drawn anywhere: small networks train fastest, and larger ones grow."""
DRAWS = 16
"""Draws in search of one that is small; where none is, the smallest is tried."""
SHRINK = 0.4
"""Share of the children that make their parent smaller by one change of a fixed list."""
NEAR = 25
"""Trials near the front, of which one may be crossed with a parent."""
PROMISING = 0.5
"""A parent's loss, as a share of what predicting the mean costs."""
TRIES = 400
"""Draws in search of one that is possible, within the limits and new."""


class Proposal(Protocol):
    """A trial that may be begun: see `Candidate`."""

    @property
    def drawn(self) -> dict[str, Any]:
        """Its parameters."""
        ...

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What they were drawn from."""
        ...

    @property
    def config(self) -> Config:
        """What they make."""
        ...

    @property
    def parent(self) -> int | None:
        """The trial whose weights it starts from."""
        ...

    @property
    def move(self) -> str | None:
        """What was changed of the parent."""
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
        parent: number of the trial whose weights it starts from, and the `move` that led here.
    """

    drawn: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    config: Config
    sizes: tuple[float, ...]
    parent: int | None = None
    move: str | None = None


class Member(NamedTuple):
    """A finished trial within the limits."""

    trial: FrozenTrial
    sizes: tuple[float, ...]
    loss: float


class Evolution(BaseSampler):
    """Samples the space of a problem; see the module."""

    def __init__(self, problem: "Problem", seed: int) -> None:
        self._problem = problem
        self._random = np.random.default_rng(seed)
        self._weights = problem.space.weights()
        self._records = Records(problem.objectives, problem.limits)
        self._next: dict[str, Any] = {}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Choose the whole configuration; Optuna then asks for its values."""
        if is_enqueued(trial):
            self._next = {}
            return {}
        chosen = self.propose(study.get_trials(deepcopy=False))
        self._next = chosen.drawn
        return chosen.distributions

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        """The values of the configuration chosen."""
        return self._next

    def sample_independent(
        self, _study: Study, _trial: FrozenTrial, _name: str, distribution: BaseDistribution
    ) -> Any:
        """A value of an enqueued trial that was not given."""
        return value(distribution, self._random)

    def propose(self, trials: list[FrozenTrial]) -> Candidate:
        """What to try next.

        Raises:
            ExhaustedError: nothing new is possible within the limits; UserError: nothing is, the
                message names the limit.
        """
        members = self._members(trials)
        trained = sum(is_trained(trial) for trial in trials)
        tried = {record_of(trial).key for trial in trials}
        parents = self._parents(members)
        for _ in range(TRIES):
            young = trained < STARTUP or not parents
            if young or self._random.random() < ANYWHERE:
                found = self._anywhere()
            else:
                found = self._child(parents, members, tried)
            if found is not None and identity(found.config) not in tried:
                return found
        # Few configurations may be tried, or none: look for one instead of drawing.
        last = self._made(within_reach(self._problem, self._random))
        if last is not None and identity(last.config) not in tried:
            return last
        raise ExhaustedError(
            f"{TRIES} draws in a row were impossible, over a limit or tried before; "
            "nothing new seems to be left in the search space"
        )

    def _members(self, trials: Sequence[FrozenTrial]) -> list[Member]:
        """Finished trials, the smallest first."""
        found = []
        for trial in trials:
            record = self._records.one(trial) if trial.state == TrialState.COMPLETE else None
            if record is not None and record.loss is not None:
                found.append(Member(trial, record.sizes, record.loss))
        return sorted(found, key=lambda member: (*member.sizes, member.loss))

    def _parents(self, members: Sequence[Member]) -> list[Member]:
        """The front, but for those that hardly do better than predicting the mean."""
        if not members:
            return []
        from moocore import is_nondominated  # type: ignore[import-untyped]

        points = np.array([(member.loss, *member.sizes) for member in members])
        front = [m for m, kept in zip(members, is_nondominated(points), strict=True) if kept]
        worst = self._problem.constant_loss or max(member.loss for member in members)
        return [m for m in front if m.loss < PROMISING * worst] or front

    def _anywhere(self) -> Candidate | None:
        """The first of a few draws that is small, or else the smallest."""
        from clapp.models.costs import cost

        smallest, least = None, float("inf")
        for _ in range(DRAWS):
            found = self._made({})
            if found is None:
                continue
            params, _ = cost(found.config.model)
            if params <= SMALL:
                return found
            if params < least:
                smallest, least = found, params
        return smallest

    def _child(
        self, parents: Sequence[Member], members: Sequence[Member], tried: set[str | None]
    ) -> Candidate | None:
        # The lower the loss the more often: what is best is worth making smaller.
        chances = np.arange(1, len(parents) + 1, dtype=float)
        order = sorted(parents, key=lambda member: -member.loss)
        parent = order[self._random.choice(len(order), p=chances / chances.sum())]
        others = [member.trial.params for member in _near(members, NEAR)]
        trial = parent.trial
        if self._random.random() < SHRINK:
            move, given = self._shrunk(trial, tried)
        else:
            move, given = changed(dict(trial.params), trial.distributions, others, self._random)
        found = self._made(given) if given else None
        return found and found._replace(parent=trial.number, move=move)

    def _shrunk(self, parent: FrozenTrial, tried: set[str | None]) -> tuple[str, dict[str, Any]]:
        """A parent's parameters with one change that makes its network smaller; empty: all tried.

        The list of such changes is that of `clapp shrink`.
        """
        from clapp.study.storage.heritage import configuration  # loads torch

        config = configuration(record_of(parent))
        flat = flatten(config.model_dump())
        left = []
        for words, values in smaller(config.model):
            changes = {f"model.{key}": value for key, value in values.items()}
            given = self._problem.space.represent(flat | changes)
            key = identity(compose([Layer("a change", nest(flat | changes))]))
            if key not in tried:
                left.append((words, dict(given)))
        return left[int(self._random.integers(len(left)))] if left else ("", {})

    def _made(self, given: Mapping[str, Any]) -> Candidate | None:
        draw = Draw(self._random, given, self._weights)
        found = within_limits(self._problem, draw, 0)
        if found is None:
            return None
        from clapp.models.costs import cost

        _, config = found
        params, flops = cost(config.model)
        return Candidate(draw.values, draw.distributions, config, (float(flops), float(params)))


def _near(members: Sequence[Member], count: int) -> list[Member]:
    """The members that the fewest others beat in loss without being larger."""
    losses = np.array([member.loss for member in members])
    sizes = np.array([member.sizes for member in members])
    beaten = [
        int(np.sum((losses < member.loss) & np.all(sizes <= np.array(member.sizes), axis=1)))
        for member in members
    ]
    return [members[i] for i in np.argsort(beaten, kind="stable")[:count]]
