"""Samplers by name; optuna is imported when one is made, not to list them."""

from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

STARTUP = 20
"""Random trials before TPE models anything; its own ten are few for twenty parameters."""


def tpe(seed: int) -> "BaseSampler":
    """TPE over groups of parameters that occur together, aware of trials still running.

    Bergstra et al., 2011; multivariate and grouped: Falkner et al., 2018 and Optuna's `group`. It
    compares logarithms of the objectives, see `clapp.study.logtpe`.
    """
    from clapp.study.logtpe import LogTPESampler

    return LogTPESampler(
        multivariate=True, group=True, constant_liar=True, n_startup_trials=STARTUP, seed=seed
    )


def random(seed: int) -> "BaseSampler":
    """Uniform draws."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def nsga2(seed: int) -> "BaseSampler":
    """NSGA-II (Deb et al., 2002); parameters outside the common space are drawn at random."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed)


SAMPLERS: dict[str, Callable[[int], "BaseSampler"]] = {"tpe": tpe, "random": random, "nsga2": nsga2}


def known_samplers() -> list[str]:
    """Names a study file may use."""
    return list(SAMPLERS)


def make_sampler(name: str, *parts: int | str) -> "BaseSampler":
    """The sampler `name`, seeded from `parts` (see `derived_seed`)."""
    import warnings

    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # multivariate, group, constant_liar
        return SAMPLERS[name](derived_seed(*parts))


def derived_seed(*parts: int | str) -> int:
    """A 31-bit seed that is the same for the same parts and unrelated for any other.

    Two workers, or a study resumed, must not repeat each other's draws.
    """
    digest = sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
