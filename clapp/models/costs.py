"""The cost of a network: parameters and FLOPs, exact and computed without torch.

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
    """Parameters and FLOPs of an architecture, computed without building the network; cached.

    A sampler asks for the costs of hundreds of candidates, so this has to take microseconds. Tests
    compare the results with the networks that `build_model` makes.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    valid = config if isinstance(config, ModelConfig) else model_config(config)
    return _cost(valid.canonical())


@lru_cache(maxsize=65536)
def _cost(config: ModelConfig) -> Cost:
    return family_of(config).cost(config)
