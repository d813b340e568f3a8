"""The network of the family `guided`."""

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clapp.models.activations import activation
from clapp.models.networks.initialise import standardise
from clapp.models.networks.shapes import cropped, to_multiple

if TYPE_CHECKING:
    from clapp.models.families.guided import GuidedConfig


class Guided(nn.Module):
    """Computes maps of coefficients at low resolution and applies them to a full-resolution
    guide."""

    def __init__(self, config: "GuidedConfig") -> None:
        super().__init__()
        self.factor, self.outputs, self.guides = (
            config.factor,
            config.output_channels,
            config.guides,
        )
        ends = [config.input_channels, *[config.width] * config.depth]
        self.low = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(ends))
        self.maps = nn.Conv2d(config.width, self.outputs * (self.guides + 1), 1)
        self.guide = nn.Conv2d(config.input_channels, config.guide, 1) if config.guide else None
        self.activation = activation(config.activation)
        standardise(self, config.input_channels, list(self.low))
        if self.maps.bias is not None and not self.maps.bias.is_meta:
            with torch.no_grad():  # so that the first output is the mean of the guide
                self.maps.bias[: self.outputs * self.guides] += 1 / self.guides

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W), values in [0, 1], to (B, Cout, H, W); the result is not clamped."""
        height, width = x.shape[-2:]
        x = to_multiple(x, self.factor)
        y = F.avg_pool2d(x, self.factor)
        for convolution in self.low:
            y = self.activation(convolution(y))
        maps = F.interpolate(self.maps(y), scale_factor=float(self.factor), mode="bilinear")
        guide = x if self.guide is None else self.activation(self.guide(x))
        # Channels of `maps`: one for each output and the first guide, then for the second guide and
        # so on, and the offsets last.
        size = self.outputs
        result = maps[:, size * self.guides :]
        for number in range(self.guides):
            part = maps[:, size * number : size * (number + 1)]
            result = result + part * guide[:, number : number + 1]
        return cropped(result, height, width)
