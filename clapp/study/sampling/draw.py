"""Draw a configuration from a study's space, with its exact costs."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from clapp.config import Config
from clapp.errors import ConfigError
from clapp.front.objectives import exact_costs
from clapp.study.pruning.problem import Suggests

if TYPE_CHECKING:
    from clapp.study.pruning.problem import Problem


def within_limits(
    problem: "Problem", trial: Suggests, seed: int
) -> tuple[dict[str, Any], Config] | None:
    """Draw keys and their configuration; None: it is impossible or exceeds a limit."""
    drawn = problem.space.suggest(trial, problem.base)
    try:
        config = problem.config(drawn, seed, None)
    except ConfigError:
        return None
    limits = problem.limits
    costs = exact_costs(config, limits)
    fits = all(costs[name] <= limits[name] for name in costs)
    return (drawn, config) if fits else None


class Draw:
    """Suggests given values if they are possible, else random ones, like a trial without a study.

    Attributes:
        distributions: distribution of each suggested name.
        values: value of each suggested name.
    """

    def __init__(
        self,
        random: np.random.Generator,
        given: Mapping[str, Any] | None = None,
        weights: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._random, self._given, self._weights = random, given or {}, weights or {}
        self.distributions: dict[str, BaseDistribution] = {}
        self.values: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As Optuna's."""
        return self._suggest(name, CategoricalDistribution(choices))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """As Optuna's."""
        return int(self._suggest(name, IntDistribution(low, high, log, step)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """As Optuna's."""
        return float(self._suggest(name, FloatDistribution(low, high, log, step)))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        self.distributions[name] = distribution
        if name in self._given and contains(distribution, self._given[name]):
            self.values[name] = self._given[name]
        elif name in self._weights and isinstance(distribution, CategoricalDistribution):
            weights = np.array(self._weights[name])
            index = self._random.choice(len(weights), p=weights / weights.sum())
            self.values[name] = distribution.choices[index]
        else:
            self.values[name] = value(distribution, self._random)
        return self.values[name]


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution contains a value."""
    if isinstance(distribution, CategoricalDistribution):
        return any(value == c and type(value) is type(c) for c in distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and distribution.low <= value <= distribution.high


def value(distribution: BaseDistribution, random: np.random.Generator) -> Any:
    """A uniform random value, on a log scale if the distribution has one."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[random.integers(len(distribution.choices))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return _placed(distribution, random.random())


def step_from(old: float, distribution: BaseDistribution, random: np.random.Generator) -> Any:
    """A number near `old`: a normal step of a tenth of the range; integers change by at least
    one."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = _ends(distribution)
    here = ((math.log(old) if distribution.log else old) - low) / (high - low) if high > low else 0
    new = _placed(distribution, min(max(here + random.normal() / 10, 0.0), 1.0))
    if new == old and isinstance(distribution, IntDistribution):
        new = old + int(random.choice([-1, 1])) * distribution.step
        new = min(max(new, distribution.low), distribution.high)
    return new


def _ends(distribution: IntDistribution | FloatDistribution) -> tuple[float, float]:
    """Ends of the scale on which values are drawn; an integer occupies half a step to each side."""
    half = distribution.step / 2 if isinstance(distribution, IntDistribution) else 0.0
    low, high = distribution.low - half, distribution.high + half
    return (math.log(low), math.log(high)) if distribution.log else (low, high)


def _placed(distribution: IntDistribution | FloatDistribution, place: float) -> Any:
    """The value at a position between 0 and 1 of the range."""
    low, high = _ends(distribution)
    number = low + place * (high - low)
    number = math.exp(number) if distribution.log else number
    if distribution.step is not None:
        number = distribution.low + round((number - distribution.low) / distribution.step) * (
            distribution.step
        )
    number = min(max(number, distribution.low), distribution.high)
    return int(number) if isinstance(distribution, IntDistribution) else float(number)
