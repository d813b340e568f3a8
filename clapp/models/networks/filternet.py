"""FilterNet: the small fully convolutional network that stands in for a classical filter."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clapp.config import BlockShape, FilterNetConfig
from clapp.models.activations import activation
from clapp.models.graph.nodes import ROOT_EPS
from clapp.models.networks.initialise import initialise
from clapp.models.networks.whole import DividedByMaximum


class Block(nn.Module):
    """Normalisation, convolution and activation, with scaled residual (ReZero) and skip (ReSkip).

    A block that changes the number of channels has no skip.
    """

    def __init__(self, shape: BlockShape, padding: str, bias: bool) -> None:
        super().__init__()
        width = shape.width
        self.norm_first = shape.norm_first
        self.activation = activation(shape.activation)
        self.conv = nn.Sequential(*_convolution(shape, padding, bias))
        self.norm = _norm(shape)
        self.skip = shape.has_skip
        self.alfa = _scale(width, 1.0) if self.skip and shape.rezero else None
        self.beta = _scale(width, 0.0) if self.skip and shape.reskip else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, width, H, W)."""
        y = self.conv(self.norm(x)) if self.norm_first else self.norm(self.conv(x))
        y = self.activation(y)
        if not self.skip:
            return y
        if self.alfa is not None:
            y = self.alfa * y
        return y + (x if self.beta is None else self.beta * x)


class ChannelSum(nn.Module):
    """The sum of the channels, in as many equal groups as there are outputs; no parameters."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs, H, W)."""
        size = x.shape[1] // self.outputs
        parts = [
            torch.sum(x[:, start : start + size], 1, keepdim=True)
            for start in range(0, x.shape[1], size)
        ]
        return parts[0] if self.outputs == 1 else torch.cat(parts, 1)


class FilterNet(nn.Module):
    """1x1 convolution, blocks, 1x1 convolution or sum; the picture's size is kept.

    Attributes:
        config: the architecture.
        min_size: the smallest height and width in pixels the network accepts.
    """

    def __init__(self, config: FilterNetConfig) -> None:
        super().__init__()
        self.config = config
        self.min_size = config.min_size
        stem, last, bias = config.stem_channels, config.blocks[-1].width, config.bias
        self.prep: nn.Module = nn.Identity()
        if config.stem != 0:
            self.prep = nn.Conv2d(config.input_channels, stem, 1, bias=bias)
        self.main = nn.ModuleList(Block(shape, config.padding, bias) for shape in config.own_blocks)
        self.post: nn.Module = ChannelSum(config.output_channels)
        if config.head == "conv":
            self.post = nn.Conv2d(last, config.output_channels, 1, bias=bias)
        self.scaled = DividedByMaximum() if config.output_norm == "max" else None
        if not any(p.is_meta for p in self.parameters()):
            initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """The input of the head: (B, Cin, H, W) to (B, width of the last block, H', W').

        H' and W' are H and W, or half of them, rounded up, when downsampling.
        """
        if self.config.downsample == 2:
            # Always pad one row and column: they complete an odd size, and pooling drops them in an
            # even one.
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
        if self.config.output_activation == "sqrt":
            y = torch.sqrt(F.relu(y) + ROOT_EPS) - ROOT_EPS**0.5
        else:
            y = activation(self.config.output_activation)(y)
        if self.config.downsample == 2:
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear")[..., :height, :width]
        return y if self.scaled is None else self.scaled(y)


def _convolution(shape: BlockShape, padding: str, bias: bool) -> list[nn.Module]:
    """The convolution of a block with its padding: full, depthwise, or separable."""
    channels, width = shape.channels, shape.width
    height, across = shape.border
    how: dict[str, Any] = {"dilation": shape.dilation}
    if max(shape.border) and padding != "zero_after":
        mode = "zeros" if padding == "zero" else padding
        how |= {"padding": shape.border, "padding_mode": mode}
    layers: list[nn.Module]
    if shape.separable:
        # A bias here would only add to that of the 1x1 convolution.
        first = nn.Conv2d(channels, channels, shape.kernel, groups=channels, bias=False, **how)
        layers = [first, nn.Conv2d(channels, width, 1, bias=bias)]
    else:
        groups = channels if shape.depthwise else 1
        layers = [nn.Conv2d(channels, width, shape.kernel, groups=groups, bias=bias, **how)]
    if max(shape.border) and padding == "zero_after":
        layers.append(nn.ZeroPad2d((across, across, height, height)))
    return layers


def _norm(shape: BlockShape) -> nn.Module:
    if shape.norm == "none":
        return nn.Identity()
    return nn.GroupNorm(1, shape.channels if shape.norm_first else shape.width)


def _scale(channels: int, value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((1, channels, 1, 1), value))
