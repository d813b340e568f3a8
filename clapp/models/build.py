"""Build a network of any family from its configuration."""

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from clapp.config import ModelConfig, model_config
from clapp.models.families import family_of
from clapp.models.family import State


class Network(nn.Module):
    """The type of all networks of `build_model`: a module with its configuration.

    Attributes:
        config: the architecture.
        min_size: the smallest height and width in pixels that it accepts.
    """

    config: ModelConfig
    min_size: int


def build_model(config: ModelConfig | Mapping[str, Any]) -> Network:
    """Build a network with initial weights, which depend on torch's global seed.

    Args:
        config: a model configuration, or a mapping of its keys laid over the packaged defaults.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    valid = config if isinstance(config, ModelConfig) else model_config(config)
    family = family_of(valid)
    net = cast(Network, family.build(valid))
    net.config, net.min_size = valid, family.min_size(valid)
    return net


def min_size(config: ModelConfig) -> int:
    """The smallest height and width in pixels that a network accepts."""
    return family_of(config).min_size(config)


def heir(parent: ModelConfig, weights: State, child: ModelConfig) -> State | None:
    """Initial weights inherited from a trained network; None if it is of another family.

    New weights depend on torch's global seed.
    """
    if parent.family != child.family:
        return None
    fresh = build_model(child).state_dict()
    return family_of(child).inherited(parent, weights, child, fresh)
