"""TPE that compares the logarithms of the objectives.

Among trials that do not dominate each other, Optuna's TPE prefers those with the larger share of
hypervolume in the objectives as they are. Losses here span four decades and sizes two: with plain
values a loss of 0.001 is worth hardly more than one of 0.005 while the worst is 0.08. On log scales
each halving counts the same. What it brings is not settled: see docs/training.md.
"""

from copy import copy
from math import log10
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial

_LEAST = 1e-12  # what a value of zero counts as


class LogTPESampler(TPESampler):
    """`TPESampler` for objectives that are positive and minimised."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._logged: dict[int, FrozenTrial] = {}
        self._view: tuple[int, _LogView] | None = None

    def _sample(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._view is None or self._view[0] != trial.number:
            self._view = trial.number, _LogView(study, self._logged)
        return super()._sample(self._view[1], trial, search_space)  # type: ignore[arg-type]


class _LogView:
    """A study as one trial sees it: finished trials show the logarithms of their values.

    The trials are read once, although every group of parameters asks for them.
    """

    def __init__(self, study: Study, logged: dict[int, FrozenTrial]) -> None:
        self._study, self._seen = study, logged
        self._trials: list[FrozenTrial] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(self, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        if self._trials is None:
            trials = self._study._get_trials(*arguments, **options)
            self._trials = [self._logged(trial) for trial in trials]
        return self._trials

    def _logged(self, trial: FrozenTrial) -> FrozenTrial:
        if not trial.state.is_finished() or trial.values is None:
            return trial
        if trial.number not in self._seen:
            view = copy(trial)
            view.values = [log10(max(value, _LEAST)) for value in trial.values]
            self._seen[trial.number] = view
        return self._seen[trial.number]
