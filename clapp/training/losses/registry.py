"""Training losses by name, and their weighted sums.

Checking a configuration reads the registry, so torch is imported only when a loss is computed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from clapp.system.registry import Registry
from clapp.system.suggest import hint

if TYPE_CHECKING:
    from torch import Tensor

Loss: TypeAlias = Callable[["Tensor", "Tensor"], "Tensor"]
LossSpec: TypeAlias = str | Mapping[str, float]


@dataclass(frozen=True)
class Entry:
    """One loss.

    Attributes:
        function: (prediction, target), both float (B, C, H, W), to a scalar, a mean over pictures.
        residual: whether it is a mean over pixels of something that grows with the error of each,
            which Levenberg-Marquardt can minimise.
        words: its name in a sentence.
        least: side in pixels of the smallest crop that the loss accepts.
        package: an optional package that it needs; "": none.
    """

    function: Loss
    residual: bool
    words: str
    least: int = 1
    package: str = ""


LOSSES: Registry[Entry] = Registry("loss")


def register_loss(
    name: str, *, residual: bool = True, words: str = "", least: int = 1, package: str = ""
) -> Callable[[Loss], Loss]:
    """Make the decorated function the loss called `name`; see `Entry`."""

    def keep(function: Loss) -> Loss:
        LOSSES.add(name, Entry(function, residual, words or name, least, package))
        return function

    return keep


def known_losses() -> list[str]:
    """The names of the registry."""
    return LOSSES.names()


def parts(spec: LossSpec) -> dict[str, float]:
    """A loss, or a sum of losses, as name -> weight."""
    return {spec: 1.0} if isinstance(spec, str) else dict(spec)


def loss(spec: LossSpec) -> Loss:
    """The loss called `spec`, or the sum of those it holds: (prediction, target) to a scalar.

    Raises:
        ConfigError: no such loss.
    """
    weighted = [(weight, LOSSES.find(name).function) for name, weight in parts(spec).items()]
    if isinstance(spec, str):
        return weighted[0][1]

    def total(prediction: "Tensor", target: "Tensor") -> "Tensor":
        first, *others = (weight * function(prediction, target) for weight, function in weighted)
        return sum(others, first)

    return total


def checked_loss(spec: Any) -> LossSpec:
    """A loss as a configuration holds it: a name, or a mapping of names to weights.

    Raises:
        ValueError: another value; the message says what is allowed.
    """
    if isinstance(spec, str):
        _check_name(spec)
        return spec
    if not isinstance(spec, Mapping) or not spec:
        raise ValueError(
            f"{spec!r} is not allowed; allowed: a loss, or losses with weights such as "
            f"{{l2: 1, ssim: 0.1}}, of {', '.join(LOSSES)}"
        )
    for name, weight in spec.items():
        _check_name(name)
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not (number and 0 < weight < math.inf):
            raise ValueError(f"the weight of {name}, {weight!r}, is not allowed; allowed: above 0")
    return {name: float(weight) for name, weight in spec.items()}


def _check_name(name: Any) -> None:
    if name not in LOSSES:
        raise ValueError(
            f"{name!r} is not allowed; {hint(str(name), LOSSES)}allowed: {', '.join(LOSSES)}"
        )
    package = LOSSES[name].package
    if package and find_spec(package) is None:
        raise ValueError(
            f"{name} needs the package {package}, which is not installed: "
            "pip install 'clapp[losses]'"
        )


def canonical_loss(spec: LossSpec) -> LossSpec:
    """The shortest way to write a loss: a name, where one has the weight 1."""
    names = parts(spec)
    return next(iter(names)) if list(names.values()) == [1] else names


def not_residual(spec: LossSpec) -> list[str]:
    """The losses in `spec` that are no sum over the errors of single pixels."""
    return [name for name in parts(spec) if not LOSSES.find(name).residual]


def smallest_crop(spec: LossSpec) -> int:
    """The side of the smallest crop that all losses in `spec` can compare."""
    return max(LOSSES.find(name).least for name in parts(spec))


def loss_words(spec: LossSpec) -> str:
    """A loss in a sentence: "L1", "L2 + 0.1 SSIM"."""
    said = []
    for name, weight in parts(spec).items():
        words = LOSSES[name].words if name in LOSSES else name
        said.append(words if weight == 1 else f"{weight:g} {words}")
    return " + ".join(said)
