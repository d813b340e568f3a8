"""What a network costs: its parameters and its FLOPs, exactly and without torch.

FLOPs are those of one picture of 224x224, the size the reference publishes its figures for.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from clapp.config import ModelConfig, model_config
from clapp.models.families import family_of
from clapp.models.family import SIDE as SIDE
from clapp.models.family import Cost as Cost


def cost(config: ModelConfig | Mapping[str, Any]) -> Cost:
    """Parameters and FLOPs of an architecture, counted without laying it out; cached.

    A sampler asks for the costs of a hundred candidates at a time, so microseconds matter; that
    these are the costs of the network that `build_model` makes is left to the tests.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    valid = config if isinstance(config, ModelConfig) else model_config(config)
    return _cost(valid.canonical())


@lru_cache(maxsize=65536)
def _cost(config: ModelConfig) -> Cost:
    return family_of(config).cost(config)
