"""A configuration said in words, for the places where a person reads about one model."""

from collections.abc import Iterable, Mapping
from typing import Any

from clapp.config import Config, Layer, ModelConfig, compose, nest

ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "squared_relu": "squared ReLU",
    "gelu": "GELU",
    "swish": "Swish",
    "none": "no activation",
    "abs": "absolute value",
}
LOSSES = {"l1": "L1", "l2": "L2", "lc": "log cosh", "all": "L1 + L2 + log cosh"}
_BORDERS = {
    "zero_after": "zeros around the result",
    "zero": "border of zeros",
    "reflect": "reflected border",
    "replicate": "repeated border",
}
_SAID = ("model.", "train.", "num_resolutions")


def in_words(config: Config | Mapping[str, Any]) -> str:
    """Network and training in words, such as "2 blocks of 4 channels, 3x3, ...; trained with L1".

    Args:
        config: a configuration, or the dotted keys in which one differs from the defaults.

    Raises:
        ConfigError: the dotted keys make no configuration.
    """
    if not isinstance(config, Config):
        said = {key: value for key, value in config.items() if key.startswith(_SAID)}
        config = compose([Layer("configuration", nest(said))])
    return f"{model_in_words(config.model)}; {training_in_words(config)}"


def model_in_words(model: ModelConfig) -> str:
    """The network: "1 block of 4 channels, 5x5, square, no normalisation, reflected border"."""
    model = model.canonical()  # what has no effect is not said
    parts = [
        _blocks(model),
        f"{'separable ' * model.separable}{model.kernel_size}x{model.kernel_size}",
        ACTIVATIONS.get(model.activation, model.activation),
        _norm(model),
        _skip(model),
        _BORDERS[model.padding] if model.kernel_size > 1 else "",
        "half resolution" if model.downsample == 2 else "",
        _end(model),
    ]
    return _joined(parts)


def training_in_words(config: Config) -> str:
    """How it is trained: "trained with L1 at 0.1, batches of 8"."""
    train = config.train
    resolutions = config.num_resolutions
    parts = [
        f"trained with {LOSSES[train.loss_type]} at {train.learning_rate:.3g}",
        f"batches of {train.batch_size}",
        f"{resolutions} resolutions" if resolutions > 1 else "",
        "bfloat16" if train.precision == "bf16" else "",
    ]
    return _joined(parts)


def _blocks(model: ModelConfig) -> str:
    channels = _counted(model.capacity, "channel")
    if model.shared_weights:
        blocks = f"1 block of {channels} applied {model.num_layers} times"
    else:
        blocks = f"{_counted(model.num_layers, 'block')} of {channels}"
    if model.stem_channels == model.capacity:
        return blocks
    return f"{blocks} after a stem of {model.stem_channels}"


def _norm(model: ModelConfig) -> str:
    if model.norm == "none":
        return "no normalisation"
    return f"normalised {'before' if model.flip_conv_norm else 'after'} the convolution"


def _skip(model: ModelConfig) -> str:
    if model.num_layers == 1 and model.stem_channels != model.capacity:
        return ""  # its only block has no skip
    scaled = [name for name, on in (("ReZero", model.rezero), ("ReSkip", model.reskip)) if on]
    return " and ".join(scaled) or "plain skip"


def _end(model: ModelConfig) -> str:
    last = {"none": "", "relu": "ReLU at the end", "sqrt": "square root at the end"}
    scaled = "divided by its maximum" if model.output_norm == "max" else ""
    return _joined([last[model.output_activation], scaled])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part)
