"""The network of the family `u2net`."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clapp.models.activations import activation
from clapp.models.networks.initialise import standardise
from clapp.models.networks.shapes import cropped, through_u, to_multiple

if TYPE_CHECKING:
    from clapp.models.families.u2net import U2NetConfig


class Stage(nn.Module):
    """A residual U-block: a convolution, and a small U-Net whose result is added to its result."""

    def __init__(self, inputs: int, height: int, config: "U2NetConfig") -> None:
        super().__init__()
        width, inner = config.width, config.inner
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(inner if level else width, inner, 3, padding=1) for level in range(height + 1)
        )
        self.bottom = nn.Conv2d(inner, inner, 3, padding=2, dilation=2)
        self.up = nn.ModuleList(
            nn.Conv2d(2 * inner, inner if level else width, 3, padding=1)
            for level in range(height + 1)
        )
        self.activation = activation(config.activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, width, H, W); sides are multiples of 2^height."""
        first = y = self.activation(self.first(x))
        kept = []
        for level, convolution in enumerate(self.down):
            y = self.activation(convolution(F.avg_pool2d(y, 2) if level else y))
            kept.append(y)
        y = self.activation(self.bottom(y))
        for level in reversed(range(len(kept))):
            if level < len(kept) - 1:
                y = F.interpolate(y, scale_factor=2.0, mode="bilinear")
            y = self.activation(self.up[level](torch.cat([kept[level], y], 1)))
        return y + first


class U2Net(nn.Module):
    """Stages down, stages up, a 1x1 convolution; the picture's size is kept."""

    def __init__(self, config: "U2NetConfig") -> None:
        super().__init__()
        self.multiple, heights = config.multiple, config.heights
        self.down = nn.ModuleList(
            Stage(config.inputs(level, down=True), height, config)
            for level, height in enumerate(heights)
        )
        self.up = nn.ModuleList(
            Stage(config.inputs(level, down=False), height, config)
            for level, height in enumerate(heights[:-1])
        )
        self.head = nn.Conv2d(config.width, config.output_channels, 1)
        standardise(self, config.input_channels, [*self.down, *self.up])

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W), values in [0, 1], to (B, Cout, H, W); the result is not clamped."""
        height, width = x.shape[-2:]
        y = through_u(to_multiple(x, self.multiple), self.down, self.up)  # type: ignore[arg-type]
        return cropped(self.head(y), height, width)
