"""What a FilterNet costs: its parameters and its FLOPs, exactly and without torch.

FLOPs are those of one picture of 224x224, the size the reference publishes its figures for.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from clapp.config import BlockShape, ModelConfig, model_config

SIDE = 224


class Cost(NamedTuple):
    """Trainable parameters, and FLOPs of the convolutions (2 per multiply-add)."""

    params: int
    flops: int


def cost(config: ModelConfig | Mapping[str, Any]) -> Cost:
    """Parameters and FLOPs of an architecture, counted without laying it out; cached.

    A sampler asks for the costs of a hundred candidates at a time, so microseconds matter; that
    these are the costs of the network that `build_model` makes is left to the tests.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    return _cost(_validated(config).canonical())


@lru_cache(maxsize=65536)
def _cost(config: ModelConfig) -> Cost:
    stem, last = config.stem_channels, config.blocks[-1].width
    outputs, bias = config.output_channels, config.bias
    blocks = config.blocks[:1] if config.shared_weights else config.blocks
    repeats = config.num_layers if config.shared_weights else 1
    side = SIDE // config.downsample

    first = config.input_channels * stem if config.stem != 0 else 0  # weights of the 1x1
    end = last * outputs if config.head == "conv" else 0
    params = first + end
    if bias:
        params += stem * (config.stem != 0) + outputs * (config.head == "conv")
    work = (first + end) * side**2
    for block in blocks:
        weights = _block_weights(block)
        params += weights + _block_others(block, bias)
        # Convolved first and padded after, a picture has fewer pixels where the work is done.
        less = [2 * pixels if config.padding == "zero_after" else 0 for pixels in block.border]
        work += weights * (side - less[0]) * (side - less[1]) * repeats
    return Cost(params, 2 * work)


def _block_weights(block: BlockShape) -> int:
    """Weights of the convolutions of a block, each one multiply-add an output pixel."""
    area, channels, width = block.kernel[0] * block.kernel[1], block.channels, block.width
    if block.separable:
        return channels * (area + width)
    return width * area if block.depthwise else channels * width * area


def _block_others(block: BlockShape, bias: bool) -> int:
    """Biases, normalisation and the scales of ReZero and ReSkip."""
    normed = block.channels if block.norm_first else block.width
    norm = 2 * normed if block.norm == "group" else 0
    scales = block.rezero + block.reskip if block.channels == block.width else 0
    return block.width * bias + norm + block.width * scales


def _validated(config: ModelConfig | Mapping[str, Any]) -> ModelConfig:
    return config if isinstance(config, ModelConfig) else model_config(config)
