"""Losses of single pixels: means of a function of each error."""

import math
from typing import TYPE_CHECKING

from clapp.training.losses.registry import register_loss

if TYPE_CHECKING:
    from torch import Tensor

HUBER = 0.05
"""Error from which the Huber loss is linear."""
CHARBONNIER = 1e-3
"""Error below which the Charbonnier loss is nearly quadratic."""


@register_loss("l1", words="L1")
def l1(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean absolute error."""
    from torch.nn import functional as F

    return F.l1_loss(prediction, target)


@register_loss("l2", words="L2")
def l2(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean squared error."""
    from torch.nn import functional as F

    return F.mse_loss(prediction, target)


@register_loss("lc", words="log cosh")
def log_cosh(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean log(cosh(error)): quadratic near zero, linear far from it."""
    from torch.nn import functional as F

    # cosh itself overflows beyond an error of 89; this form is exact and never does.
    error = (prediction - target).abs()
    return (error + F.softplus(-2 * error) - math.log(2)).mean()


@register_loss("all", words="L1 + L2 + log cosh")
def total(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """The sum of the three before."""
    return l1(prediction, target) + l2(prediction, target) + log_cosh(prediction, target)


@register_loss("charbonnier", words="Charbonnier")
def charbonnier(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean root of the squared error and `CHARBONNIER` squared, zero for no error.

    Charbonnier et al. 1994: an L1 that is smooth at zero.
    """
    error = prediction - target
    return (error.square() + CHARBONNIER**2).sqrt().mean() - CHARBONNIER


@register_loss("huber", words="Huber")
def huber(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Quadratic up to an error of `HUBER`, linear beyond it (Huber 1964)."""
    from torch.nn import functional as F

    return F.huber_loss(prediction, target, delta=HUBER)
