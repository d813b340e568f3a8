"""A configuration said in words, for the places where a person reads about one model."""

from collections.abc import Iterable, Mapping
from typing import Any

from clapp.config import BlockShape, Config, Layer, ModelConfig, compose, nest

ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "squared_relu": "squared ReLU",
    "gelu": "GELU",
    "swish": "Swish",
    "none": "no activation",
    "abs": "absolute value",
    "max3": "maximum over 3x3",
    "min3": "minimum over 3x3",
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
    """The network: "1 block of 4 channels, 5x5, square, no normalisation, reflected border".

    What differs from block to block is listed: "2 blocks of 2 then 1 channels, 1x5 then 5x1, ...".
    """
    model = model.canonical()  # what has no effect is not said
    blocks = model.blocks
    parts = [
        _blocks(model),
        _each(_convolution(block) for block in blocks),
        _each(ACTIVATIONS.get(block.activation, block.activation) for block in blocks),
        _each(_norm(block) for block in blocks),
        _each(_skip(block) for block in blocks),
        _BORDERS[model.padding] if any(block.kernel != (1, 1) for block in blocks) else "",
        "" if model.bias else "no biases",
        "half resolution" if model.downsample == 2 else "",
        _end(model),
    ]
    return _joined(parts)


def _each(words: Iterable[str]) -> str:
    """What is said of the blocks: once where it is the same for all."""
    said = list(words)
    if len(set(said)) == 1:
        return said[0]
    return " then ".join(word or "nothing" for word in said)


def _convolution(block: BlockShape) -> str:
    kind = "separable " if block.separable else "depthwise " if block.depthwise else ""
    dilated = f" dilated by {block.dilation}" if block.dilation > 1 else ""
    return "{}{}x{}{}".format(kind, *block.kernel, dilated)


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
    if isinstance(model.capacity, list):
        channels = f"{' then '.join(map(str, model.capacity))} channels"
    else:
        channels = _counted(model.capacity, "channel")
    if model.shared_weights:
        blocks = f"1 block of {channels} applied {model.num_layers} times"
    else:
        blocks = f"{_counted(model.num_layers, 'block')} of {channels}"
    if model.stem == 0:
        return f"{blocks} without a stem"
    if model.stem_channels == model.blocks[0].width:
        return blocks
    return f"{blocks} after a stem of {model.stem_channels}"


def _norm(block: BlockShape) -> str:
    if block.norm == "none":
        return "no normalisation"
    return f"normalised {'before' if block.norm_first else 'after'} the convolution"


def _skip(block: BlockShape) -> str:
    scaled = [name for name, on in (("ReZero", block.rezero), ("ReSkip", block.reskip)) if on]
    return " and ".join(scaled)  # a block without either has no skip


def _end(model: ModelConfig) -> str:
    last = {"none": "", "relu": "ReLU at the end", "sqrt": "square root at the end"}
    scaled = "divided by its maximum" if model.output_norm == "max" else ""
    summed = "channels summed" if model.head == "sum" else ""
    return _joined([summed, last[model.output_activation], scaled])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part)
