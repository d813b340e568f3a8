"""A moving average of a network's weights, which is validated and kept instead of the last ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """The exponential moving average of the parameters of one network (Polyak and Juditsky 1992).

    The decay at step t is min(decay, (1 + t) / (10 + t)): the average forgets the initial, random
    weights quickly.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._parameters = list(net.parameters())
        self._means = [p.detach().clone() for p in self._parameters]
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Add the present weights to the average, after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for mean, parameter in zip(self._means, self._parameters, strict=True):
            mean.lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the network while the block runs."""
        last = [p.detach().clone() for p in self._parameters]
        self.apply()
        try:
            yield
        finally:
            self._write(last)

    def apply(self) -> None:
        """Write the average into the network."""
        self._write(self._means)

    @torch.no_grad()
    def _write(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
