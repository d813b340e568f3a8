"""A configuration drawn from a study's space, and what is known of it before it is trained."""

from typing import TYPE_CHECKING, Any

from clapp.config import Config
from clapp.errors import ConfigError

if TYPE_CHECKING:
    from optuna.trial import Trial

    from clapp.study.plan import Plan


def known(config: Config) -> dict[str, float]:
    """The objectives that need no training."""
    from clapp.costs import cost

    return dict(zip(("params", "flops"), map(float, cost(config.model)), strict=True))


def within_limits(plan: "Plan", trial: "Trial", seed: int) -> tuple[dict[str, Any], Config] | None:
    """The keys a trial draws and the configuration they make; None: nothing that may be trained."""
    drawn = plan.space.suggest(trial, plan.base)
    try:
        config = plan.config(drawn, seed, None)
    except ConfigError:
        return None
    limits, costs = plan.file.limits.given(), known(config)
    fits = all(costs[name] <= limits.get(name, costs[name]) for name in costs)
    return (drawn, config) if fits else None
