"""Training losses: means over every pixel of every picture.

The registry is read to check a configuration, so torch is imported when a loss is computed.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from clapp.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Loss: TypeAlias = Callable[["Tensor", "Tensor"], "Tensor"]

ZERO = 1e-9
"""What zero counts as where a logarithm or a quotient needs a positive number.

An L2 of 1e-9 is a hundredth of an 8-bit step at every pixel. Anything below counts the same.
"""


def positive(value: float) -> float:
    """`value`, or `ZERO` where it is less: for logarithms and quotients."""
    return max(value, ZERO)


def short(value: float) -> str:
    """Four significant digits, without an exponent from 0.000001 to ten millions: 0.004731."""
    text = f"{value:.4g}"
    if "e" in text and 1e-6 <= abs(value) < 1e7:
        text = f"{value:,.0f}" if abs(value) >= 1 else f"{value:.9f}".rstrip("0")
    return text


def decibels(loss: float) -> str:
    """The peak signal-to-noise ratio of a mean squared error of pictures in [0, 1]: 33.3 dB."""
    return f"{-10 * math.log10(positive(loss)):.1f} dB"


def loss_text(loss: float) -> str:
    """A loss as people read it everywhere: "0.004731 (23.3 dB)"."""
    return f"{short(loss)} ({decibels(loss)})"


_REGISTRY: dict[str, Loss] = {}


def loss(name: str) -> Loss:
    """The loss called `name`: (prediction, target), both (B, C, H, W), to a scalar.

    Raises:
        ConfigError: no such loss.
    """
    try:
        return _REGISTRY[name]
    except KeyError:
        known = ", ".join(_REGISTRY)
        raise ConfigError(f"loss {name!r} is not known; known: {known}") from None


def known_losses() -> list[str]:
    """The names of the registry."""
    return list(_REGISTRY)


def register_loss(name: str) -> Callable[[Loss], Loss]:
    """Make the decorated function the loss called `name`."""

    def keep(function: Loss) -> Loss:
        _REGISTRY[name] = function
        return function

    return keep


@register_loss("l1")
def l1(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean absolute error."""
    from torch.nn import functional as F

    return F.l1_loss(prediction, target)


@register_loss("l2")
def l2(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean squared error."""
    from torch.nn import functional as F

    return F.mse_loss(prediction, target)


@register_loss("lc")
def log_cosh(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean log(cosh(error)): quadratic near zero, linear far from it."""
    from torch.nn import functional as F

    # cosh itself overflows beyond an error of 89; this form is exact and never does.
    error = (prediction - target).abs()
    return (error + F.softplus(-2 * error) - math.log(2)).mean()


@register_loss("all")
def total(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """The sum of the other three."""
    return l1(prediction, target) + l2(prediction, target) + log_cosh(prediction, target)
