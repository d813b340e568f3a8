"""A configuration as words, for people who read about a model."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from clapp.config import Config, Layer, ModelConfig, compose, nest
from clapp.models.families import family_of
from clapp.models.phrases import joined

_SAID = ("model.", "train.", "num_resolutions")


def in_words(config: Config | Mapping[str, Any]) -> str:
    """Network and training in words, such as "2 blocks of 4 channels, 3x3, ...; trained with L1".

    Args:
        config: a configuration, or the dotted keys in which it differs from the defaults.

    Raises:
        ConfigError: the dotted keys make no configuration.
    """
    if not isinstance(config, Config):
        said = {key: value for key, value in config.items() if key.startswith(_SAID)}
        config = compose([Layer("configuration", nest(said))], stored=True)
    return f"{model_in_words(config.model)}; {training_in_words(config)}"


def model_in_words(model: ModelConfig) -> str:
    """The network in the words of its family: "1 block of 4 channels, 5x5, square, ..."."""
    return family_of(model).words(model)


def training_in_words(config: Config) -> str:
    """The training in words: "trained with L1 at 0.1, batches of 8"."""
    train = config.train
    resolutions = config.num_resolutions
    # The losses import the networks.
    loss_words = import_module("clapp.training.losses").loss_words
    parts = [
        f"trained with {loss_words(train.loss_type)} at {train.learning_rate:.3g}",
        f"batches of {train.batch_size}",
        f"{resolutions} resolutions" if resolutions > 1 else "",
        "bfloat16" if train.precision == "bf16" else "",
    ]
    return joined(parts)
