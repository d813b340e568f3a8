"""CLAPP: the smallest neural network that can stand in for a classical computer-vision filter."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clapp.config import load_config as load_config
    from clapp.costs import cost as cost
    from clapp.errors import ClappError as ClappError
    from clapp.errors import UserError as UserError
    from clapp.filters import apply_filter as apply_filter
    from clapp.images import register_source as register_source
    from clapp.model import build_model as build_model
    from clapp.study.objectives import Objective as Objective
    from clapp.study.objectives import register_objective as register_objective
    from clapp.study.pruners import Pruner as Pruner
    from clapp.study.pruners import Verdict as Verdict
    from clapp.study.pruners import register_pruner as register_pruner
    from clapp.study.sampler import register_sampler as register_sampler
    from clapp.training import TrainResult as TrainResult
    from clapp.training import train as train
    from clapp.trialfiles import load as load

__version__ = "0.1.0"

_HOMES = {
    "ClappError": "clapp.errors",
    "Objective": "clapp.study.objectives",
    "Pruner": "clapp.study.pruners",
    "Verdict": "clapp.study.pruners",
    "TrainResult": "clapp.training",
    "UserError": "clapp.errors",
    "apply_filter": "clapp.filters",
    "build_model": "clapp.model",
    "cost": "clapp.costs",
    "load": "clapp.trialfiles",
    "load_config": "clapp.config",
    "register_objective": "clapp.study.objectives",
    "register_pruner": "clapp.study.pruners",
    "register_sampler": "clapp.study.sampler",
    "register_source": "clapp.images",
    "train": "clapp.training",
}
__all__ = ["__version__", *_HOMES]  # resolved on first use


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import clapp` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'clapp' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
