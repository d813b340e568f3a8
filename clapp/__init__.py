"""CLAPP: the smallest neural network that can stand in for a classical computer-vision filter."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clapp.system import moved

if TYPE_CHECKING:
    from clapp.config import ModelConfig as ModelConfig
    from clapp.config import load_config as load_config
    from clapp.errors import ClappError as ClappError
    from clapp.errors import UserError as UserError
    from clapp.filters.library import apply_filter as apply_filter
    from clapp.filters.library import register_filter as register_filter
    from clapp.front.objectives import Objective as Objective
    from clapp.front.objectives import register_objective as register_objective
    from clapp.images import register_source as register_source
    from clapp.models.activations import Activation as Activation
    from clapp.models.activations import register_activation as register_activation
    from clapp.models.build import build_model as build_model
    from clapp.models.costs import cost as cost
    from clapp.models.families import register_family as register_family
    from clapp.models.family import Cost as Cost
    from clapp.models.family import Family as Family
    from clapp.study.pruning.pruners import Pruner as Pruner
    from clapp.study.pruning.pruners import Verdict as Verdict
    from clapp.study.pruning.pruners import register_pruner as register_pruner
    from clapp.study.sampling.samplers import register_sampler as register_sampler
    from clapp.training.folder import load as load
    from clapp.training.losses import register_loss as register_loss
    from clapp.training.trainer import TrainResult as TrainResult
    from clapp.training.trainer import train as train

__version__ = "0.1.0"
moved.install()

_HOMES = {
    "Activation": "clapp.models.activations",
    "ClappError": "clapp.errors",
    "Cost": "clapp.models.family",
    "Family": "clapp.models.family",
    "ModelConfig": "clapp.config",
    "Objective": "clapp.front.objectives",
    "Pruner": "clapp.study.pruning.pruners",
    "Verdict": "clapp.study.pruning.pruners",
    "TrainResult": "clapp.training.trainer",
    "UserError": "clapp.errors",
    "apply_filter": "clapp.filters.library",
    "build_model": "clapp.models.build",
    "cost": "clapp.models.costs",
    "load": "clapp.training.folder",
    "load_config": "clapp.config",
    "register_activation": "clapp.models.activations",
    "register_family": "clapp.models.families",
    "register_filter": "clapp.filters.library",
    "register_loss": "clapp.training.losses",
    "register_objective": "clapp.front.objectives",
    "register_pruner": "clapp.study.pruning.pruners",
    "register_sampler": "clapp.study.sampling.samplers",
    "register_source": "clapp.images",
    "train": "clapp.training.trainer",
}
__all__ = ["__version__", *_HOMES]  # resolved on first use


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import clapp` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'clapp' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
