"""The network of the family `unet`."""

import itertools
from typing import TYPE_CHECKING

from torch import Tensor, nn

from clapp.models.activations import activation
from clapp.models.networks.initialise import standardise
from clapp.models.networks.shapes import cropped, through_u, to_multiple

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
        y = through_u(to_multiple(x, self.multiple), self.down, self.up)  # type: ignore[arg-type]
        return cropped(self.head(y), height, width)
