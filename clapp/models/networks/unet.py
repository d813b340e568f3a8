"""The network of the family `unet`."""

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clapp.models.activations import activation
from clapp.models.networks.initialise import standardise
from clapp.models.networks.shapes import cropped, to_multiple

if TYPE_CHECKING:
    from clapp.models.families.unet import UNetConfig


class Stage(nn.Module):
    """3x3 convolutions in a row, an activation after each."""

    def __init__(self, inputs: int, outputs: int, config: "UNetConfig") -> None:
        super().__init__()
        ends = [inputs, *[outputs] * config.convolutions]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(ends)
        )
        self.activation = activation(config.activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        for convolution in self.convolutions:
            x = self.activation(convolution(x))
        return x


class UNet(nn.Module):
    """Stages down, stages up, a 1x1 convolution; the picture's size is kept."""

    def __init__(self, config: "UNetConfig") -> None:
        super().__init__()
        widths = config.widths
        self.multiple = 2**config.depth
        inputs = [config.input_channels, *widths]
        self.down = nn.ModuleList(Stage(inputs[n], w, config) for n, w in enumerate(widths))
        self.up = nn.ModuleList(
            Stage(widths[level] + widths[level + 1], widths[level], config)
            for level in range(config.depth)
        )
        self.head = nn.Conv2d(config.width, config.output_channels, 1)
        standardise(self, config.input_channels, [*self.down, *self.up])

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W), values in [0, 1], to (B, Cout, H, W); the result is not clamped."""
        height, width = x.shape[-2:]
        y = self.down[0](to_multiple(x, self.multiple))
        kept = []
        for stage in self.down[1:]:
            kept.append(y)
            y = stage(F.avg_pool2d(y, 2))
        for level in reversed(range(len(kept))):
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear")
            y = self.up[level](torch.cat([kept[level], y], 1))
        return cropped(self.head(y), height, width)
