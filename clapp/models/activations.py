"""Activations, by the names a configuration uses.

Checking a configuration reads the registry, so torch is imported only when an activation is
computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from clapp.system.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An activation function.

    Attributes:
        name: its name in `model.activation`.
        function: from (B, C, H, W) to the same shape.
        words: its name in descriptions.
        window: how many pixels away from a pixel it reads.
        degree: the n for which f(c x) = c^n f(x) for all c > 0, so that a factor can be moved past
            it; None: there is none.
    """

    name: str
    function: "Callable[[Tensor], Tensor]"
    words: str
    window: int = 0
    degree: int | None = None

    def __call__(self, x: "Tensor") -> "Tensor":
        """Apply the function."""
        return self.function(x)

    def __reduce__(self) -> tuple[Any, ...]:
        return activation, (self.name,)


ACTIVATIONS: Registry[Activation] = Registry("activation")


def known_activations() -> list[str]:
    """The values that `model.activation` may have."""
    return ACTIVATIONS.names()


def register_activation(activation: Activation) -> Activation:
    """Make an activation known to configurations; see `Activation`.

    Raises:
        UserError: its name is taken or not a name.
    """
    return ACTIVATIONS.add(activation.name, activation)


def activation(name: str) -> Activation:
    """The activation called `name`.

    Raises:
        ConfigError: no such activation.
    """
    return ACTIVATIONS.find(name)


def _torch(name: str) -> "Callable[[Tensor], Tensor]":
    """A function of torch, such as "nn.functional.relu"; torch is imported when it is called."""

    def call(x: "Tensor") -> "Tensor":
        import torch

        result: Tensor = attrgetter(name)(torch)(x)
        return result

    return call


def _identity(x: "Tensor") -> "Tensor":
    return x


def _clip(x: "Tensor") -> "Tensor":
    from torch.nn import functional

    return functional.hardtanh(x, 0.0, 1.0)


def _squared_relu(x: "Tensor") -> "Tensor":
    import torch
    from torch.nn import functional

    return torch.square(functional.relu(x))


def _maximum(x: "Tensor") -> "Tensor":
    from torch.nn import functional

    return functional.max_pool2d(x, 3, 1, 1)


def _minimum(x: "Tensor") -> "Tensor":
    from torch.nn import functional

    return -functional.max_pool2d(-x, 3, 1, 1)


for _entry in (
    Activation("relu", _torch("nn.functional.relu"), "ReLU", degree=1),
    Activation("leaky_relu", _torch("nn.functional.leaky_relu"), "leaky ReLU", degree=1),
    Activation("squared_relu", _squared_relu, "squared ReLU", degree=2),  # So et al. 2021, Primer
    Activation("gelu", _torch("nn.functional.gelu"), "GELU"),
    Activation("tanh", _torch("tanh"), "tanh"),
    Activation("sigmoid", _torch("sigmoid"), "sigmoid"),
    Activation("clip", _clip, "clip"),
    Activation("swish", _torch("nn.functional.silu"), "Swish"),
    Activation("none", _identity, "no activation", degree=1),
    # Edge strength is an even function of the gradient, and these two are even.
    Activation("abs", _torch("abs"), "absolute value", degree=1),
    Activation("square", _torch("square"), "square", degree=2),
    # Over 3x3 pixels, without pixels beyond the border, as cv2.dilate and cv2.erode do.
    Activation("max3", _maximum, "maximum over 3x3", window=1, degree=1),
    Activation("min3", _minimum, "minimum over 3x3", window=1, degree=1),
):
    register_activation(_entry)
