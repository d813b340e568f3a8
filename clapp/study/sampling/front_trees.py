"""The sampler `front_trees`: the best of many candidates near the front, by predicted loss.

Sampling is cheap and training is not, and parameters and FLOPs are exact before a training. So each
trial is the best of many candidates. Most are members of the front with a few keys changed; some
are drawn from the whole space. Extremely randomised trees (Geurts et al., 2006) predict an
optimistic loss for each, which gives, with the exact sizes, the hypervolume that it would add to
the front. SMAC (Hutter et al., 2011) uses random forests in this way; regularised evolution (Real
et al., 2019) mutates the best.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from clapp.config import Config, identity
from clapp.front.hypervolume import log_hypervolume
from clapp.front.objectives import CONSTANT_LOSS, exact_costs, exact_names, positive, worst_values
from clapp.front.record import record_of
from clapp.study.pruning.decide import Records, exact_sizes
from clapp.study.pruning.pruners import Record, finished_from
from clapp.study.sampling.at_once import AtOnce
from clapp.study.sampling.draw import Draw, step_from, within_limits
from clapp.study.sampling.features import Encoder
from clapp.study.sampling.reach import within_reach

if TYPE_CHECKING:
    from clapp.study.pruning.problem import Problem

STARTUP = 20
"""Random trials before the first prediction."""
CANDIDATES = 64
ANYWHERE = 0.2
"""Share of the candidates that are drawn from the whole space."""
NEARBY = 0.5
"""Share of the changed numbers that move a little instead of being drawn anew."""
OPTIMISM = 1.0
"""How many standard deviations of the trees are subtracted from a predicted loss."""
OVERHEAD = 4e8
"""FLOPs that take as long as all else in a training step, fitted to the seconds of CLAPP-Bench.

Measured times are not used here: they vary between runs, so a seed would no longer reproduce its
trials.
"""
TREES = 50
GROWTH = 1.1
"""The trees are fitted again when the number of trials has grown by this factor."""
TRIES = 200
"""Draws for one candidate before a configuration known to be possible is mutated instead."""
ROOM = 10.0
"""Where an objective has no limit, the hypervolume reaches this much further than the front."""


class Candidate(NamedTuple):
    """A configuration that may be tried."""

    drawn: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    config: Config
    sizes: NDArray[np.float64]
    effort: float
    """The effort of a training step, in FLOPs."""
    parent: int | None = None
    move: str | None = None


class FrontSampler(AtOnce):
    """An Optuna sampler; see the module."""

    def __init__(self, problem: "Problem", seed: int) -> None:
        super().__init__(seed)
        self._problem = problem
        self._objectives = problem.objectives
        self._sizes = exact_names(self._objectives)
        self._encode = Encoder(problem.space.column_documents())
        self._possible: dict[str, Any] | None = None
        self._model: Any = None
        self._seen = 0  # number of trials when the model was fitted
        self._records = Records(self._objectives, problem.limits)

    def propose(self, trials: Sequence[FrozenTrial]) -> Candidate:
        """The configuration to try next, given all trials of the study.

        Raises:
            UserError: nothing in the space may be trained; the message says why.
        """
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
        worst = self._worst_point(points)
        worth = self._worth(found, points[kept], worst)
        return self._first_new([found[i] for i in np.argsort(-worth, kind="stable")], tried)

    def _first_new(self, candidates: Sequence[Candidate], tried: set[str | None]) -> Candidate:
        new = (c for c in candidates if identity(c.config) not in tried)
        return next(new, candidates[0])

    def _anywhere(self) -> Candidate:
        found = self._first_made({} for _ in range(TRIES))
        if found is not None:
            return found
        # Few configurations are within the limits: start from one of them.
        if self._possible is None:
            self._possible = within_reach(self._problem, self._random)
        possible = self._possible
        found = self._first_made(self._less(possible) for _ in range(TRIES))
        return found or self._made_surely(possible)

    def _candidate(self, parents: Sequence[FrozenTrial]) -> Candidate:
        if self._random.random() < ANYWHERE:
            return self._anywhere()
        chosen = (parents[int(self._random.integers(len(parents)))] for _ in range(TRIES))
        found = self._first_made(self._changed(parent) for parent in chosen)
        return found or self._anywhere()

    def _first_made(self, given: Iterable[Mapping[str, Any]]) -> Candidate | None:
        made = (self._made(keys) for keys in given)
        return next((candidate for candidate in made if candidate is not None), None)

    def _made_surely(self, given: Mapping[str, Any]) -> Candidate:
        found = self._made(given)
        assert found is not None  # it was valid and within the limits when it was found
        return found

    def _less(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given keys without one or a few, which are then drawn anew."""
        number = min(len(given), self._random.geometric(0.4))
        gone = set(self._random.choice(list(given), size=number, replace=False))
        return {key: value for key, value in given.items() if key not in gone}

    def _changed(self, parent: FrozenTrial) -> dict[str, Any]:
        """The keys of a parent without a few that are drawn anew; half of the numbers only move a
        little."""
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
        found = within_limits(self._problem, draw, 0)
        if found is None:
            return None
        _, config = found
        costs = exact_costs(config, {"flops", *self._sizes})
        sizes = np.array([costs[name] for name in self._sizes])
        effort = OVERHEAD + costs["flops"] * config.train.batch_size
        return Candidate(draw.values, draw.distributions, config, sizes, effort)

    def _worst_point(self, points: NDArray[np.float64]) -> list[float]:
        """The reference point of the hypervolume, in the order of loss and sizes.

        Args:
            points: (n, m), loss and sizes of the models trained so far.
        """
        problem, names = self._problem, ["loss", *self._sizes]
        found = [dict(zip(names, row, strict=True)) for row in points.tolist()]
        worst = worst_values(names, {CONSTANT_LOSS: problem.constant_loss}, problem.limits, found)
        without = {*self._sizes} - {*problem.limits}
        return [worst[name] * (ROOM if name in without else 1.0) for name in names]

    def _worth(
        self,
        candidates: Sequence[Candidate],
        front: NDArray[np.float64],
        worst: Sequence[float],
    ) -> NDArray[np.float64]:
        """The hypervolume that each candidate would add, per effort; if none, minus its predicted
        loss."""
        features = np.array([self._encode(c.drawn, c.sizes) for c in candidates])
        losses = np.array([tree.predict(features)[:, 0] for tree in self._model])  # (T, C)
        hoped = 10 ** (losses.mean(0) - OPTIMISM * losses.std(0))
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
        """Fit the trees to final losses, if there are enough new trials.

        For a trial that was stopped early, the final loss is extrapolated from that of the others.
        """
        number = len(done) + len(stopped)
        if self._model is not None and number < GROWTH * self._seen:
            return
        from sklearn.ensemble import ExtraTreesRegressor  # type: ignore[import-untyped]

        rows, losses = [], []
        known = self._records.of(done)
        typical: dict[
            int, float
        ] = {}  # step -> the typical ratio of final loss to the loss at that step
        for trial in (*done, *stopped):
            record = record_of(trial)
            sizes = exact_sizes(self._objectives, record)
            if sizes is None:
                continue
            if record.loss is not None:
                losses.append(record.loss)
            elif record.stopped is not None:
                step, l2 = record.stopped["step"], record.stopped["l2"]
                if step not in typical:
                    typical[step] = _typical_fall(step, known)
                losses.append(l2 * typical[step])
            else:
                continue
            rows.append(self._encode(trial.params, sizes))
        forest = ExtraTreesRegressor(
            TREES,
            max_features=0.5,
            min_samples_leaf=2,
            random_state=int(self._random.integers(2**31)),
        )
        forest.fit(np.array(rows), np.log10([positive(loss) for loss in losses]))
        self._model, self._seen = [tree.tree_ for tree in forest.estimators_], number


def _typical_fall(step: int, records: Sequence[Record]) -> float:
    """The median of final loss over the loss at `step`; 1 where no trial has both."""
    finished = finished_from(step, records)
    return float(np.median(finished[:, 1] / finished[:, 0])) if len(finished) else 1.0
