"""The sampler that knows what a network costs: many candidates, judged before one is trained.

Asking is cheap here and training is not, and of three objectives two are exact beforehand. So each
trial is the best of many candidates: most are members of the front with a few keys changed, some
are drawn anywhere. Extremely randomised trees (Geurts et al., 2006) predict the loss of each; with
its exact sizes that gives the hypervolume it would add to the front, for a loss as low as the trees
hold possible. Random forests as the model of a search: SMAC (Hutter et al., 2011); mutation of the
best: regularised evolution (Real et al., 2019).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from clapp.config import Config, identity
from clapp.hypervolume import WORST_LOSS, log_hypervolume
from clapp.study.draw import Draw, known, step_from, value, within_limits
from clapp.study.features import Encoder
from clapp.study.record import record_of
from clapp.study.trials import is_enqueued
from clapp.study.watch import EXACT, Records, exact_sizes

if TYPE_CHECKING:
    from clapp.study.plan import Plan

STARTUP = 20
"""Trials drawn anywhere before anything is predicted."""
CANDIDATES = 64
ANYWHERE = 0.2
"""Share of the candidates that are drawn anywhere."""
NEARBY = 0.5
"""Share of the changed numbers that move a little instead of being drawn anew."""
OPTIMISM = 1.0
"""Standard deviations among the trees by which a predicted loss is taken for lower."""
OVERHEAD = 4e8
"""FLOPs that take as long as what a step takes beside them.

Fitted to the seconds of CLAPP-Bench. Nothing here follows from seconds measured in the search: one
seed would not give the same trials twice.
"""
TREES = 50
GROWTH = 1.1
"""The trees are grown again when there are that many times as many trials as when they were."""


class Candidate(NamedTuple):
    """A configuration that may be tried."""

    drawn: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    config: Config
    sizes: NDArray[np.float64]
    effort: float
    """What a training step takes, in FLOPs of whole pictures."""
    parent: int | None = None
    move: str | None = None


class FrontSampler(BaseSampler):
    """Samples the space of a plan; see the module."""

    def __init__(self, plan: "Plan", seed: int) -> None:
        self._plan = plan
        self._random = np.random.default_rng(seed)
        self._objectives = plan.file.objectives
        self._sizes = [name for name in self._objectives if name in EXACT]
        self._limits = plan.file.limits.given()
        self._encode = Encoder(plan.space.column_documents())
        self._model: Any = None
        self._seen = 0  # trials when the model was fitted
        self._next: dict[str, Any] = {}
        self._records = Records(self._objectives)

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
        """The configuration to try next, given all trials of the study."""
        done = [t for t in trials if t.state == TrialState.COMPLETE]
        stopped = [t for t in trials if t.state == TrialState.PRUNED and record_of(t).stopped]
        within = [(t, record) for t in done if (record := self._records.one(t)) is not None]
        tried = {record_of(trial).key for trial in trials}
        if len(done) + len(stopped) < STARTUP or len(within) < 2:
            return self._first_new([self._anywhere() for _ in range(CANDIDATES // 8)], tried)
        from moocore import is_nondominated  # type: ignore[import-untyped]

        points = np.array([(record.loss, *record.sizes) for _, record in within])
        kept = is_nondominated(points)
        parents = [trial for (trial, _), keep in zip(within, kept, strict=True) if keep]
        found = [self._candidate(parents) for _ in range(CANDIDATES)]
        self._fit(done, stopped)
        worth = self._worth(found, points[kept])
        return self._first_new([found[i] for i in np.argsort(-worth, kind="stable")], tried)

    def _first_new(self, candidates: Sequence[Candidate], tried: set[str | None]) -> Candidate:
        new = (c for c in candidates if identity(c.config) not in tried)
        return next(new, candidates[0])

    def _anywhere(self) -> Candidate:
        while True:
            found = self._made({})
            if found is not None:
                return found

    def _candidate(self, parents: Sequence[FrozenTrial]) -> Candidate:
        while True:
            if self._random.random() < ANYWHERE:
                return self._anywhere()
            found = self._made(self._changed(parents[int(self._random.integers(len(parents)))]))
            if found is not None:
                return found

    def _changed(self, parent: FrozenTrial) -> dict[str, Any]:
        """The keys of a parent less the few that are drawn anew; numbers often move only a bit."""
        given = dict(parent.params)
        number = min(len(given), self._random.geometric(0.4))
        for key in self._random.choice(list(given), size=number, replace=False):
            old, distribution = given.pop(key), parent.distributions[key]
            number_like = not isinstance(distribution, CategoricalDistribution)
            if number_like and self._random.random() < NEARBY:
                given[key] = step_from(old, distribution, self._random)
        return given

    def _made(self, given: Mapping[str, Any]) -> Candidate | None:
        draw = Draw(self._random, given)
        found = within_limits(self._plan, draw, 0)
        if found is None:
            return None
        _, config = found
        costs = known(config)
        sizes = np.array([costs[name] for name in self._sizes])
        effort = OVERHEAD + costs["flops"] * config.train.batch_size
        return Candidate(draw.values, draw.distributions, config, sizes, effort)

    def _worth(
        self, candidates: Sequence[Candidate], front: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The hypervolume each would add for its effort; where none, less the higher its loss."""
        features = np.array([self._encode(c.drawn, c.sizes) for c in candidates])
        losses = np.array([tree.predict(features)[:, 0] for tree in self._model])  # (T, C)
        hoped = 10 ** (losses.mean(0) - OPTIMISM * losses.std(0))
        worst = [
            WORST_LOSS,
            *(self._limits.get(n, front[:, i + 1].max() * 10) for i, n in enumerate(self._sizes)),
        ]
        base = log_hypervolume(front, worst)

        def gain(point: NDArray[np.float64]) -> float:
            if np.any(np.all(front <= point, axis=1)):
                return 0.0
            return log_hypervolume([*front, point], worst) - base

        points = [np.array([loss, *c.sizes]) for c, loss in zip(candidates, hoped, strict=True)]
        return np.array(
            [
                gain(point) / c.effort or -point[0]
                for c, point in zip(candidates, points, strict=True)
            ]
        )

    def _fit(self, done: Sequence[FrozenTrial], stopped: Sequence[FrozenTrial]) -> None:
        """Learn the final loss, when there is enough that is new.

        A trial that was stopped counts with the loss it would have had, had it fallen like others.
        """
        number = len(done) + len(stopped)
        if self._model is not None and number < GROWTH * self._seen:
            return
        from sklearn.ensemble import ExtraTreesRegressor  # type: ignore[import-untyped]

        rows, losses, falls = [], [], _Falls(done)
        for trial in (*done, *stopped):
            record = record_of(trial)
            sizes = exact_sizes(self._objectives, record)
            if sizes is None:
                continue
            if record.loss is not None:
                losses.append(record.loss)
            elif record.stopped is not None:
                verdict = record.stopped
                losses.append(verdict["l2"] * falls.median(verdict["step"]))
            else:
                continue
            rows.append(self._encode(trial.params, sizes))
        forest = ExtraTreesRegressor(
            TREES,
            max_features=0.5,
            min_samples_leaf=2,
            random_state=int(self._random.integers(2**31)),
        )
        forest.fit(np.array(rows), np.log10(np.clip(losses, 1e-7, WORST_LOSS)))
        self._model, self._seen = [tree.tree_ for tree in forest.estimators_], number


class _Falls:
    """How far losses fell from a step to the end, among finished trials."""

    def __init__(self, done: Sequence[FrozenTrial]) -> None:
        self._falls: dict[int, list[float]] = {}
        for trial in done:
            record = record_of(trial)
            if record.loss is None:
                continue
            for step, _, l2 in record.curve:
                self._falls.setdefault(int(step), []).append(record.loss / l2)

    def median(self, step: int) -> float:
        """The median of final loss over the loss at `step`; 1 where there is none."""
        return float(np.median(self._falls.get(step, [1.0])))
