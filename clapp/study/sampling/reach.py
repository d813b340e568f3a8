"""Check before a start that a search space contains a configuration within the limits.

The smallest network of a space has no formula, so it is searched for: first by random draws, which
are enough in most spaces, then by coordinate descent from the best of them. Parameters and FLOPs
are monotonic in each key, and both ends of each key are tried, so the descent finds the smallest
network of all but contrived spaces.
"""

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from clapp.errors import ConfigError, UserError, one_line
from clapp.front.objectives import exact_costs, objective
from clapp.study.pruning.problem import Problem
from clapp.study.sampling.draw import Draw

DRAWS = 500
"""Random configurations that are tried before limits are reported as out of reach."""
GRID_POINTS = 5
SWEEPS = 20
"""The most passes of the descent over all keys; it ends when nothing gets smaller."""


class Drawn(NamedTuple):
    """A drawn configuration: its values and its exact costs."""

    values: dict[str, Any]
    costs: dict[str, float]


def check_reach(problem: Problem) -> None:
    """Refuse a study in which no configuration is within the limits.

    Raises:
        UserError: every draw is invalid, or over a limit; the message names the limit and the
            smallest value that the space can reach.
    """
    within_reach(problem, np.random.default_rng(0))


def within_reach(problem: Problem, random: np.random.Generator) -> dict[str, Any]:
    """The values of a configuration that is valid and within the limits known before a training.

    Raises:
        UserError: see `check_reach`.
    """
    limits = {name: limit for name, limit in problem.limits.items() if objective(name).exact}
    found: list[Drawn] = []
    refusal = ""
    for _ in range(DRAWS):
        one = _drawn(problem, {}, random)
        if isinstance(one, str):
            refusal = one
        elif all(one.costs[name] <= limit for name, limit in limits.items()):
            return one.values
        else:
            found.append(one)
    if not found:
        raise UserError(
            f"study {problem.name}: search_space: all {DRAWS} configurations that were drawn are "
            f"impossible, the last one: {refusal}"
        )

    def excess(costs: Mapping[str, float]) -> float:
        return max(costs[name] / limit for name, limit in limits.items())

    best = _descend(problem, found, excess, random)
    if excess(best.costs) <= 1:
        return best.values
    raise UserError(f"study {problem.name}: {_out_of_reach(problem, limits, found, best, random)}")


def _out_of_reach(
    problem: Problem,
    limits: Mapping[str, float],
    found: list[Drawn],
    best: Drawn,
    random: np.random.Generator,
) -> str:
    for name, limit in limits.items():
        least = _descend(problem, found, itemgetter(name), random).costs[name]
        if least > limit:
            return (
                f"limits.{name}: {limit:g} is not allowed; allowed: at least {least:g}, the "
                f"smallest that the search space can reach"
            )
    pairs = " and ".join(f"{name} {limit:g}" for name, limit in limits.items())
    nearest = " and ".join(f"{name} {best.costs[name]:g}" for name in limits)
    return (
        f"limits: no configuration of the search space keeps to {pairs} at once; the nearest has "
        f"{nearest}"
    )


def _descend(
    problem: Problem,
    found: list[Drawn],
    size: Callable[[Mapping[str, float]], float],
    random: np.random.Generator,
) -> Drawn:
    """The smallest configuration found by changing one key at a time, from the best one so far."""
    best = min(found, key=lambda one: size(one.costs))
    for _ in range(SWEEPS):
        before = size(best.costs)
        for key, parameter in problem.space.columns().items():
            for value in parameter.grid(GRID_POINTS):
                if best.values.get(key, math.nan) == value:
                    continue
                one = _drawn(problem, {**best.values, key: value}, random)
                if not isinstance(one, str) and size(one.costs) < size(best.costs):
                    best = one
        if size(best.costs) == before:
            break
    return best


def _drawn(problem: Problem, given: dict[str, Any], random: np.random.Generator) -> Drawn | str:
    """A configuration with the given values and random others, or the reason why it is invalid."""
    draw = Draw(random, given)
    keys = problem.space.suggest(draw, problem.base)
    try:
        config = problem.config(keys, 0, None)
    except ConfigError as error:
        return one_line(error)
    return Drawn(draw.values, exact_costs(config))
