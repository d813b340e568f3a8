"""Samplers by name; Optuna is imported when one is made, not to list them.

A sampler is a function of a problem and a seed that returns an Optuna sampler. One from outside the
package is added the same way:

    @clapp.register_sampler("mine")
    def mine(problem, seed):
        return optuna.samplers.RandomSampler(seed=seed)
"""

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from clapp.errors import UserError
from clapp.system.registry import Registry
from clapp.system.seeding import derived_seed

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from clapp.study.pruning.problem import Problem

Maker: TypeAlias = "Callable[[Problem, int], BaseSampler]"
SAMPLERS: Registry[Maker] = Registry("sampler")

STARTUP = 20
"""Random trials before TPE starts; Optuna's default of ten is small for twenty parameters."""
GRID_POINTS = 5
"""Number of grid values for a parameter without steps."""
GRID_MOST = 10_000
"""The most combinations of a grid."""


@SAMPLERS.register("evolution")
def evolution(problem: "Problem", seed: int) -> "BaseSampler":
    """Mutations of the front that inherit its weights, and random draws; see its module."""
    from clapp.study.sampling.evolution import Evolution

    return Evolution(problem, seed)


@SAMPLERS.register("front_trees")
def front_trees(problem: "Problem", seed: int) -> "BaseSampler":
    """Candidates near the front, judged by exact sizes and by trees that predict their loss."""
    from clapp.study.sampling.front_trees import FrontSampler

    return FrontSampler(problem, seed)


@SAMPLERS.register("tpe")
def tpe(_: "Problem", seed: int) -> "BaseSampler":
    """TPE over groups of parameters that occur together, aware of trials still running.

    Bergstra et al., 2011; multivariate and grouped: Falkner et al., 2018 and Optuna's `group`.
    """
    from optuna.samplers import TPESampler

    return TPESampler(
        multivariate=True, group=True, constant_liar=True, n_startup_trials=STARTUP, seed=seed
    )


@SAMPLERS.register("random")
def random(_: "Problem", seed: int) -> "BaseSampler":
    """Uniform draws."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


@SAMPLERS.register("qmc")
def qmc(problem: "Problem", _: int) -> "BaseSampler":
    """A scrambled Sobol sequence; parameters outside the common space are drawn at random."""
    from optuna.samplers import QMCSampler

    # Workers share one sequence, so they must scramble it in the same way.
    return QMCSampler(
        scramble=True, seed=derived_seed(problem.seed, "qmc"), warn_independent_sampling=False
    )


@SAMPLERS.register("nsga2")
def nsga2(_: "Problem", seed: int) -> "BaseSampler":
    """NSGA-II (Deb et al., 2002); parameters outside the common space are drawn at random."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed)


@SAMPLERS.register("nsga3")
def nsga3(_: "Problem", seed: int) -> "BaseSampler":
    """NSGA-III (Deb and Jain, 2014); parameters outside the common space are drawn at random."""
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(seed=seed)


@SAMPLERS.register("gp")
def gp(_: "Problem", seed: int) -> "BaseSampler":
    """A Gaussian process over the common space; after a hundred trials, sampling takes seconds."""
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, warn_independent_sampling=False)


@SAMPLERS.register("grid")
def grid(problem: "Problem", seed: int) -> "BaseSampler":
    """Every combination once, in random order; numbers without a step take five values."""
    from optuna.samplers import GridSampler

    values = {
        key: parameter.grid(GRID_POINTS) for key, parameter in problem.space.columns().items()
    }
    size = prod(map(len, values.values()))
    if size > GRID_MOST:
        raise UserError(
            f"study {problem.name}: sampler: grid: the space has {size:.3g} combinations; allowed: "
            f"at most {GRID_MOST:,}"
        )
    return GridSampler({key: list(grid) for key, grid in values.items()}, seed=seed)


def register_sampler(name: str) -> Callable[[Maker], Maker]:
    """A decorator that makes a sampler known to study files as `name`; see the module.

    Raises:
        UserError: the name is taken, or not a name.
    """
    return SAMPLERS.register(name)


def make_sampler(name: str, problem: "Problem", *parts: int | str) -> "BaseSampler":
    """The sampler `name` for a problem, seeded from `parts` (see `derived_seed`).

    Raises:
        UserError: there is none, or it cannot sample the problem's space.
    """
    import warnings

    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # multivariate, group, constant_liar
        return SAMPLERS.find(name)(problem, derived_seed(*parts))
