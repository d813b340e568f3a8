"""The registry of optimisers, and the choice that `train.optimizer: auto` makes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from clapp.system.registry import Registry
from clapp.training.losses import not_residual

if TYPE_CHECKING:
    from torch import Tensor

    from clapp.config import Config
    from clapp.models.build import Network
    from clapp.training.losses import Loss

AUTO = "auto"
LM_MOST_PARAMETERS = 300
"""The most parameters of a network that `auto` trains with Levenberg-Marquardt.

docs/training.md gives the measurements.
"""


class Optimiser(Protocol):
    """Changes the weights of one network.

    Attributes:
        iterations: how many iterations a step counts as. An iteration is as long as a step of Adam;
            a longer step of another optimiser counts as several, so that lengths, intervals,
            patience and rungs mean the same for all.
        repeats: how often each of the first batches is used, in a row.
    """

    iterations: int
    repeats: int

    def step(self, x: "Tensor", y: "Tensor", rate: float) -> "Tensor":
        """One step on pictures (B, 3, S, S) and targets (B, C, S, S); the mean loss before it."""
        ...

    def release(self) -> None:
        """End the training: turn the parameters back into ordinary ones."""
        ...


Maker = Callable[["Network", "Loss", "Config"], Optimiser]
OPTIMISERS: Registry[Maker] = Registry("optimizer")


def known_optimisers() -> list[str]:
    """The values that `train.optimizer` may have."""
    return [AUTO, *OPTIMISERS]


def chosen(config: "Config") -> str:
    """The name of the optimiser of a configuration, with `auto` resolved."""
    from clapp.models.costs import cost

    train = config.train
    if train.optimizer != AUTO:
        return train.optimizer
    small = cost(config.model).params <= LM_MOST_PARAMETERS
    possible = (
        train.precision == "float32"
        and train.clip_gradient is None
        and train.reparam == "none"
        and not not_residual(train.loss_type)
    )
    return "lm" if small and possible else "adam"


@OPTIMISERS.register("adam")
def adam(net: "Network", loss: "Loss", config: "Config") -> Optimiser:
    """Adam (Kingma & Ba 2015) on the gradient of the loss."""
    from clapp.training.optimisers.adam import FirstOrder
    from clapp.training.optimisers.wide import Wide

    train = config.train
    bf16 = train.precision == "bf16"
    wide = None if train.reparam == "none" else Wide(net, train.reparam)
    return FirstOrder(net, loss, config.model.widest, bf16, train.clip_gradient, wide)


@OPTIMISERS.register("lm")
def levenberg_marquardt(net: "Network", loss: "Loss", config: "Config") -> Optimiser:
    """Levenberg-Marquardt on a batch's residuals; for networks of a few hundred parameters."""
    from clapp.training.optimisers.levenberg import LevenbergMarquardt

    return LevenbergMarquardt(net, loss, config.model.widest)
