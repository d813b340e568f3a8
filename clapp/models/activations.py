"""The activations of a FilterNet, by the names a configuration uses."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def _squared_relu(x: Tensor) -> Tensor:
    return torch.square(F.relu(x))


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)


def _minimum(x: Tensor) -> Tensor:
    return -F.max_pool2d(-x, 3, 1, 1)


def _identity(x: Tensor) -> Tensor:
    return x


WINDOWS = {"max3": 1, "min3": 1}
"""Activations that look at neighbours, and how many pixels far."""

ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "squared_relu": _squared_relu,  # So et al. 2021, Primer
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "swish": F.silu,
    "none": _identity,
    # Edge strength is an even function of the gradient, and these two are even.
    "abs": torch.abs,
    "square": torch.square,
    # Over 3x3 pixels, the border left out: what dilate and erode are (cv2.dilate, cv2.erode).
    "max3": _maximum,
    "min3": _minimum,
}
