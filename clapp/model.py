"""FilterNet: the small fully convolutional network that stands in for a classical filter."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clapp.activations import ACTIVATIONS
from clapp.config import ModelConfig, model_config
from clapp.convolution import Conv2d
from clapp.initialise import initialise

# The slope of the root is at most 1 / (2 sqrt(eps)) = 500, and its offset is taken off again.
ROOT_EPS = 1e-6
# Bounds how much a picture without contrast is amplified, and with it the gradient it causes.
MAX_EPS = 1e-4


class Block(nn.Module):
    """Normalisation, convolution and activation, with scaled residual (ReZero) and skip (ReSkip).

    A block that changes the number of channels has no skip.
    """

    def __init__(self, config: ModelConfig, channels: int, copies: int) -> None:
        super().__init__()
        width = config.capacity
        self.norm_first = config.flip_conv_norm
        self.activation = ACTIVATIONS[config.activation]
        self.conv = nn.Sequential(*_convolution(config, channels, copies))
        self.norm = _norm(config, channels if self.norm_first else width, copies)
        self.skip = channels == width and (config.rezero or config.reskip)
        self.alfa = _scale(copies * width, 1.0) if self.skip and config.rezero else None
        self.beta = _scale(copies * width, 0.0) if self.skip and config.reskip else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, capacity, H, W)."""
        y = self.conv(self.norm(x)) if self.norm_first else self.norm(self.conv(x))
        y = self.activation(y)
        if not self.skip:
            return y
        if self.alfa is not None:
            y = self.alfa * y
        return y + (x if self.beta is None else self.beta * x)


class FilterNet(nn.Module):
    """1x1 convolution, `num_layers` blocks, 1x1 convolution; the picture's size is kept.

    Attributes:
        config: the architecture.
        copies: networks side by side that see the same picture and nothing of each other; their
            outputs are the channels of the result, and their parameters lie one after another.
        min_size: the smallest height and width in pixels the network accepts.
    """

    def __init__(self, config: ModelConfig, copies: int = 1) -> None:
        super().__init__()
        self.config, self.copies = config, copies
        self.min_size = min_size(config)
        stem, capacity, layers = config.stem_channels, config.capacity, config.num_layers
        self.prep = Conv2d(config.input_channels, copies * stem, 1)
        inner = 0 if config.shared_weights else layers - 1
        self.main = nn.ModuleList(
            [Block(config, stem, copies), *(Block(config, capacity, copies) for _ in range(inner))]
        )
        self.post = Conv2d(copies * capacity, copies * config.output_channels, 1, groups=copies)
        if not self.post.weight.is_meta:
            initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """What the last convolution sees: (B, Cin, H, W) to (B, capacity, H', W').

        H' and W' are H and W, or half of them, rounded up, when downsampling.
        """
        if self.config.downsample == 2:
            # One more row and column always: an odd size is completed, in an even one it drops out.
            x = F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)
        x = self.prep(x)
        for _ in range(self.config.num_layers if self.config.shared_weights else 1):
            for block in self.main:
                x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W), values in [0, 1], to (B, Cout, H, W); the result is not clamped."""
        height, width = x.shape[-2:]
        y: Tensor = self.post(self.features(x))  # (B, Cout, H', W')
        if self.config.output_activation == "relu":
            y = F.relu(y)
        elif self.config.output_activation == "sqrt":
            y = torch.sqrt(F.relu(y) + ROOT_EPS) - ROOT_EPS**0.5
        if self.config.downsample == 2:
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear")[..., :height, :width]
        if self.config.output_norm == "max":
            # Magnitudes, so that a picture that is negative everywhere is not divided by nothing.
            single = torch.unflatten(y, 1, (self.copies, -1))  # (B, copies, Cout, H, W)
            y = (single / (single.abs().amax((2, 3, 4), keepdim=True) + MAX_EPS)).flatten(1, 2)
        return y


def build_model(config: ModelConfig | Mapping[str, Any]) -> FilterNet:
    """A freshly initialised FilterNet; its weights follow torch's global seed.

    Args:
        config: a model configuration, or a mapping of its keys laid over the packaged defaults.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    return FilterNet(config if isinstance(config, ModelConfig) else model_config(config))


def min_size(config: ModelConfig) -> int:
    """The smallest height and width in pixels that the network accepts."""
    # An unpadded convolution needs its whole kernel, a reflection one pixel more than it mirrors.
    least = {"zero_after": config.kernel_size, "reflect": config.kernel_size // 2 + 1}
    inside = least.get(config.padding, 1)
    if config.norm == "group" and 1 in (config.stem_channels, config.capacity):
        inside = max(inside, 2)  # one value alone cannot be normalised
    return 2 * inside - 1 if config.downsample == 2 else inside


def _convolution(config: ModelConfig, channels: int, copies: int) -> list[nn.Module]:
    """The k x k convolution of a block with its padding, full or separable."""
    size, width = config.kernel_size, copies * config.capacity
    border, channels = size // 2, copies * channels
    padding: dict[str, Any] = {}
    if border and config.padding != "zero_after":
        mode = "zeros" if config.padding == "zero" else config.padding
        padding = {"padding": border, "padding_mode": mode}
    layers: list[nn.Module]
    if config.separable:
        # The 1x1 convolution has a bias; one before it would only add to that.
        depthwise = Conv2d(channels, channels, size, groups=channels, bias=False, **padding)
        layers = [depthwise, Conv2d(channels, width, 1, groups=copies)]
    else:
        layers = [Conv2d(channels, width, size, groups=copies, **padding)]
    if border and config.padding == "zero_after":
        layers.append(nn.ZeroPad2d(border))
    return layers


def _norm(config: ModelConfig, channels: int, copies: int) -> nn.Module:
    return nn.GroupNorm(copies, copies * channels) if config.norm == "group" else nn.Identity()


def _scale(channels: int, value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((1, channels, 1, 1), value))
