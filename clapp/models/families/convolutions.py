"""Convolutions as a family lists them: what costs follow from."""

from collections.abc import Iterable
from typing import NamedTuple

from clapp.models.family import SIDE, Cost


class Convolution(NamedTuple):
    """A square convolution, with a bias for each output unless `bias` is false.

    Attributes:
        area: output pixels of a picture of 224x224.
        groups: each sees so many parts of the inputs alone.
    """

    inputs: int
    outputs: int
    size: int = 3
    area: int = SIDE**2
    bias: bool = True
    groups: int = 1

    @property
    def weights(self) -> int:
        """Each one multiply-add an output pixel."""
        return self.inputs // self.groups * self.outputs * self.size**2


def total(convolutions: Iterable[Convolution], others: int = 0) -> Cost:
    """The costs of a network of convolutions and `others`, the parameters beside them."""
    params = flops = 0
    for one in convolutions:
        params += one.weights + one.outputs * one.bias
        flops += 2 * one.weights * one.area
    return Cost(params + others, flops)


def padded(multiple: int) -> int:
    """The side of a picture of 224x224 that was padded to a multiple."""
    return -(-SIDE // multiple) * multiple
