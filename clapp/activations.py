"""The activations of a FilterNet, by the names a configuration uses."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def _squared_relu(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "squared_relu": _squared_relu,  # So et al. 2021, Primer
    "gelu": F.gelu,
    "tanh": Tensor.tanh,
    "sigmoid": Tensor.sigmoid,
    "swish": F.silu,
    "none": _identity,
    # Edge strength is an even function of the gradient, and these two are even.
    "abs": Tensor.abs,
    "square": Tensor.square,
}
