"""The network of the family `global`."""

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clapp.filters.learned.setting import PICTURE
from clapp.models.activations import activation
from clapp.models.networks.initialise import standardise
from clapp.models.networks.whole import Moments

if TYPE_CHECKING:
    from clapp.models.families.statistics import StatisticsConfig


class Statistics(nn.Module):
    """Convolutions, scaled and shifted by statistics of the first one's result; a 1x1
    convolution."""

    def __init__(self, config: "StatisticsConfig") -> None:
        super().__init__()
        width, size = config.width, config.kernel_size
        self.settings = config.scaled_by
        ends = [config.input_channels - self.settings, *[width] * config.depth]
        self.local = nn.ModuleList(
            nn.Conv2d(a, b, size, padding=size // 2) for a, b in itertools.pairwise(ends)
        )
        self.moments = Moments()
        self.first = nn.Conv2d(config.STATISTICS * width + self.settings, config.hidden, 1)
        self.second = nn.Conv2d(config.hidden, 2 * width, 1)
        self.head = nn.Conv2d(width, config.output_channels, 1)
        self.activation = activation(config.activation)
        self.width = width
        standardise(self, config.input_channels, list(self.local))

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W), values in [0, 1], to (B, Cout, H, W); the result is not clamped."""
        values = x[:, PICTURE:, :1, :1] if self.settings else None  # constant channels
        x = self.activation(self.local[0](x[:, :PICTURE] if self.settings else x))
        known = self.moments(x)
        if values is not None:
            known = torch.cat([known, values], 1)
        change = self.second(torch.tanh(self.first(known)))  # (B, 2 width, 1, 1)
        for convolution in self.local[1:]:
            x = self.activation(convolution(x))
        factor, offset = change[:, : self.width], change[:, self.width :]
        result: Tensor = self.head(x * (1 + factor) + offset)
        return result
