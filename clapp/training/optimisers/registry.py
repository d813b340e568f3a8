"""What changes the weights in a step: a registry, and what `train.optimizer: auto` chooses."""

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
"""The largest network that `auto` trains with Levenberg-Marquardt; docs/training.md has why."""


class Optimiser(Protocol):
    """Changes the weights of one network.

    Attributes:
        iterations: what a step counts as. An iteration is a step of Adam; other optimisers take
            longer for a step and count it as about as many iterations as pass meanwhile, so that
            lengths, intervals, patience and rungs mean the same for all.
        repeats: how often the first batches are used in a row.
    """

    iterations: int
    repeats: int

    def step(self, x: "Tensor", y: "Tensor", rate: float) -> "Tensor":
        """One step on pictures (B, 3, S, S) and targets (B, C, S, S); the mean loss before it."""
        ...

    def release(self) -> None:
        """The network is trained: give its parameters back as plain ones."""
        ...


Maker = Callable[["Network", "Loss", "Config"], Optimiser]
OPTIMISERS: Registry[Maker] = Registry("optimizer")


def known_optimisers() -> list[str]:
    """What `train.optimizer` may be."""
    return [AUTO, *OPTIMISERS]


def chosen(config: "Config") -> str:
    """The optimiser that trains a configuration: the one it names, or what `auto` stands for."""
    from clapp.models.costs import cost

    train = config.train
    if train.optimizer != AUTO:
        return train.optimizer
    small = cost(config.model).params <= LM_MOST_PARAMETERS
    possible = (
        train.precision == "float32"
        and train.clip_gradient is None
        and not not_residual(train.loss_type)
    )
    return "lm" if small and possible else "adam"


@OPTIMISERS.register("adam")
def adam(net: "Network", loss: "Loss", config: "Config") -> Optimiser:
    """Adam (Kingma & Ba 2015) on the gradient of the loss."""
    from clapp.training.optimisers.adam import FirstOrder

    train = config.train
    bf16 = train.precision == "bf16"
    return FirstOrder(net, loss, config.model.widest, bf16, train.clip_gradient)


@OPTIMISERS.register("lm")
def levenberg_marquardt(net: "Network", loss: "Loss", config: "Config") -> Optimiser:
    """Levenberg-Marquardt on a batch's residuals; for networks of a few hundred parameters."""
    from clapp.training.optimisers.levenberg import LevenbergMarquardt

    return LevenbergMarquardt(net, loss, config.model.widest)
