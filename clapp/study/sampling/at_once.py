"""The base of samplers that choose all values of a trial at once."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from clapp.front.trials import is_enqueued
from clapp.study.sampling.draw import value


class Chosen(Protocol):
    """The values of a trial that a sampler has chosen."""

    @property
    def drawn(self) -> dict[str, Any]:
        """The trial's parameters."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The distributions of the parameters."""


class AtOnce(BaseSampler):
    """An Optuna sampler that gets all values of a trial from `propose`."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._next: dict[str, Any] = {}

    @abstractmethod
    def propose(self, trials: Sequence[FrozenTrial]) -> Chosen:
        """Choose what to try next, given all trials of the study."""

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
