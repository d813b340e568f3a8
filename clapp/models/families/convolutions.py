"""Lists of convolutions, from which families compute their costs."""

from collections.abc import Iterable
from typing import NamedTuple

from clapp.models.family import SIDE, Cost


class Convolution(NamedTuple):
    """A square convolution, with a bias for each output unless `bias` is false.

    Attributes:
        area: number of output pixels for a picture of 224x224.
        groups: as in torch, the number of groups that inputs and outputs are divided into.
    """

    inputs: int
    outputs: int
    size: int = 3
    area: int = SIDE**2
    bias: bool = True
    groups: int = 1

    @property
    def weights(self) -> int:
        """Number of weights without bias; each is one multiply-add per output pixel."""
        return self.inputs // self.groups * self.outputs * self.size**2


def total(convolutions: Iterable[Convolution], others: int = 0) -> Cost:
    """The costs of a network of convolutions and `others`, its number of further parameters."""
    params = flops = 0
    for one in convolutions:
        params += one.weights + one.outputs * one.bias
        flops += 2 * one.weights * one.area
    return Cost(params + others, flops)


def padded(multiple: int) -> int:
    """The side of a picture of 224x224 after padding to a multiple."""
    return -(-SIDE // multiple) * multiple
