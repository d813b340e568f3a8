"""Samplers by name; optuna is imported when one is made, not to list them."""

from collections.abc import Callable
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING

from clapp.errors import UserError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from clapp.study.plan import Plan

STARTUP = 20
"""Random trials before TPE models anything; its own ten are few for twenty parameters."""
GRID_POINTS = 5
"""Values of a number without a step on a grid."""
GRID_MOST = 10_000
"""Combinations on the largest grid that is accepted."""


def evolution(plan: "Plan", seed: int) -> "BaseSampler":
    """Changes of the front that inherit its weights, and draws anywhere; see its module."""
    from clapp.study.evolution import Evolution

    return Evolution(plan, seed)


def ours(plan: "Plan", seed: int) -> "BaseSampler":
    """Many candidates near the front, judged by predicted loss and exact sizes; see its module."""
    from clapp.study.frontsampler import FrontSampler

    return FrontSampler(plan, seed)


def tpe(_: "Plan", seed: int) -> "BaseSampler":
    """TPE over groups of parameters that occur together, aware of trials still running.

    Bergstra et al., 2011; multivariate and grouped: Falkner et al., 2018 and Optuna's `group`.
    """
    from optuna.samplers import TPESampler

    return TPESampler(
        multivariate=True, group=True, constant_liar=True, n_startup_trials=STARTUP, seed=seed
    )


def random(_: "Plan", seed: int) -> "BaseSampler":
    """Uniform draws."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def qmc(plan: "Plan", _: int) -> "BaseSampler":
    """A scrambled Sobol sequence; parameters outside the common space are drawn at random."""
    from optuna.samplers import QMCSampler

    # Workers take turns at one sequence, so they must scramble it alike.
    return QMCSampler(
        scramble=True, seed=derived_seed(plan.file.seed, "qmc"), warn_independent_sampling=False
    )


def nsga2(_: "Plan", seed: int) -> "BaseSampler":
    """NSGA-II (Deb et al., 2002); parameters outside the common space are drawn at random."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed)


def nsga3(_: "Plan", seed: int) -> "BaseSampler":
    """NSGA-III (Deb and Jain, 2014); parameters outside the common space are drawn at random."""
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(seed=seed)


def gp(_: "Plan", seed: int) -> "BaseSampler":
    """A Gaussian process over the common space; after a hundred trials it takes seconds to ask."""
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, warn_independent_sampling=False)


def grid(plan: "Plan", seed: int) -> "BaseSampler":
    """Every combination once, in random order; numbers without a step take five values."""
    from optuna.samplers import GridSampler

    values = {key: parameter.grid(GRID_POINTS) for key, parameter in plan.space.columns().items()}
    size = prod(map(len, values.values()))
    if size > GRID_MOST:
        raise UserError(
            f"study {plan.name}: sampler: grid: the space has {size:.3g} combinations; allowed: "
            f"at most {GRID_MOST:,}"
        )
    return GridSampler({key: list(grid) for key, grid in values.items()}, seed=seed)


SAMPLERS: dict[str, Callable[["Plan", int], "BaseSampler"]] = {
    "evolution": evolution,
    "ours": ours,
    "tpe": tpe,
    "random": random,
    "qmc": qmc,
    "nsga2": nsga2,
    "nsga3": nsga3,
    "gp": gp,
    "grid": grid,
}


def known_samplers() -> list[str]:
    """Names a study file may use."""
    return list(SAMPLERS)


def make_sampler(name: str, plan: "Plan", *parts: int | str) -> "BaseSampler":
    """The sampler `name` for a plan, seeded from `parts` (see `derived_seed`).

    Raises:
        UserError: it cannot sample the plan's space.
    """
    import warnings

    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # multivariate, group, constant_liar
        return SAMPLERS[name](plan, derived_seed(*parts))


def derived_seed(*parts: int | str) -> int:
    """A 31-bit seed that is the same for the same parts and unrelated for any other.

    Two workers, or a study resumed, must not repeat each other's draws.
    """
    digest = sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
