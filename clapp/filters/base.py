"""The registry of classical filters, their definitions, and helpers that several of them share.

A filter maps an RGB picture, uint8 (H, W, 3), to a target of the same height and width: (H, W) or
(H, W, 3), uint8, or float32 in [0, 1], which keeps what eight bits would cut off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from clapp.errors import ConfigError
from clapp.filters.parameters import Choice, Parameter, complete
from clapp.system.registry import Registry

FilterSpec = str | Mapping[str, Any] | list[Any]
Values = Mapping[str, Any]
Picture = NDArray[np.uint8]
Plane = NDArray[np.float32]
Target = NDArray[Any]
FilterFunction = Callable[..., Any]
F = TypeVar("F", bound=FilterFunction)
Check = Callable[[Values], str | None]

SIDE = 224
"""Height and width of the picture that FLOPs are given for, as for networks."""
EPSILON = 1e-8
"""Added to a maximum before dividing by it."""
LUMA = (19595, 38470, 7471)
"""Pillow's `L` is (19595 R + 38470 G + 7471 B + 2^15) >> 16."""
GREY_WORK = 3
"""Multiply-adds per pixel to convert colour to grey."""
# Every product and partial sum of `L` has fewer than 25 bits, so float32 holds them exactly, and
# truncation equals the shift.
_LUMA_ROW = np.array([[*(weight / 2**16 for weight in LUMA), 0.5]], np.float32)

COLOUR, GREY, EITHER, GREY16, COLOUR16 = "colour", "grey", "either", "grey16", "colour16"
"""The inputs that a filter's function may take: `colour` is uint8 (H, W, 3), `grey` uint8 (H, W),
`either` one of these by the parameter `channels`; `grey16`, `colour16` are uint16, 0 to 65535."""
TAKES = (COLOUR, GREY, EITHER, GREY16, COLOUR16)
CHANNELS = "channels"
"""Name of the parameter by which `either` filters take grey or colour."""


@dataclass(frozen=True)
class Facts:
    """Facts about a filter: source, border, reach and cost.

    Attributes:
        source: the function that computes it, such as "cv2.Canny".
        takes: see `TAKES`.
        border: the values assumed outside of the picture, in words.
        reach: how many pixels up, down, left and right a target pixel depends on; None: on the
            whole picture, or unknown.
        work: multiply-adds or other operations per pixel; None: unknown.
        counted: the operations that `work` counts, in words.
        space: the search space recommended for it.
    """

    source: str
    takes: str = COLOUR
    border: str = "not known"
    reach: int | None = None
    work: float | None = None
    counted: str = ""
    space: str = "filternet"

    @property
    def flops(self) -> int | None:
        """Operations for a picture of 224x224, 2 for each multiply-add; None: unknown."""
        return None if self.work is None else round(2 * self.work * SIDE**2)

    @property
    def channels_in(self) -> int:
        """Channels of the function's input."""
        return 1 if self.takes in (GREY, GREY16) else 3


@dataclass(frozen=True, eq=False)
class Definition:
    """A registered filter, before its parameters have values.

    Attributes:
        function: takes a picture as `takes` says and each parameter by name.
        channels: channels of its targets; None: found by calling it.
        reach, work: numbers, or functions of the parameters; see `Facts`.
        check: returns what is wrong with a combination of allowed values, or None.
        ours: whether it is part of the package; results of other filters are checked.
    """

    name: str
    function: FilterFunction
    parameters: Mapping[str, Parameter]
    source: str
    takes: str = COLOUR
    channels: int | None = None
    border: str = "not known"
    reach: int | Callable[[Values], int | None] | None = None
    work: float | Callable[[Values], float] | None = None
    counted: str = ""
    space: str = "filternet"
    check: Check | None = None
    ours: bool = False

    @property
    def summary(self) -> str:
        """The first line of its documentation."""
        return (self.function.__doc__ or self.name).strip().splitlines()[0]

    def values(self, given: Values) -> dict[str, Any]:
        """The values of all parameters: those given, and defaults.

        Raises:
            ConfigError: an unknown parameter, or a value that is not allowed.
        """
        values = complete(self.name, self.parameters, given)
        wrong = self.check(values) if self.check is not None else None
        if wrong:
            raise ConfigError(f"filter {self.name}: {wrong}")
        return values

    def facts(self, values: Values) -> Facts:
        """The facts about the filter with these parameters."""
        takes = self.takes
        if takes == EITHER:
            takes = COLOUR if values[CHANNELS] == 3 else GREY
        work = self.work(values) if callable(self.work) else self.work
        if work is not None and self.takes == EITHER:
            work = 3 * work if takes == COLOUR else work + GREY_WORK
        elif work is not None and takes == GREY:
            work += GREY_WORK
        reach = self.reach(values) if callable(self.reach) else self.reach
        colour = self.space == "filternet" and self.outputs(values) == 3
        space = "filternet_color" if colour else self.space
        return Facts(self.source, takes, self.border, reach, work, self.counted, space)

    def outputs(self, values: Values) -> int | None:
        """Channels of the targets with these parameters; None: found by calling it."""
        return int(values[CHANNELS]) if CHANNELS in self.parameters else self.channels


FILTERS: Registry[Definition] = Registry("filter")


def filter(  # noqa: A001 - the decorator's name says what it makes
    name: str,
    *,
    source: str = "",
    takes: str = COLOUR,
    gives: int | None = None,
    border: str = "not known",
    reach: int | Callable[[Values], int | None] | None = None,
    work: float | Callable[[Values], float] | None = None,
    counted: str = "",
    space: str = "filternet",
    check: Check | None = None,
    **parameters: Parameter,
) -> Callable[[F], F]:
    """Register the decorated function as a filter: `@filter("median", ksize=Odd(3, 31, 5))`.

    Args:
        name: its name in configurations.
        gives: channels of its targets; None: found by calling it.
        parameters: the function's arguments beside the picture.

    See `Definition` for the others. A filter that takes `EITHER` gets the parameter `channels` (1,
    3), which is not passed to its function.
    """
    if takes not in TAKES:
        raise ConfigError(
            f"filter {name}: takes {takes!r} is not allowed; allowed: {', '.join(TAKES)}"
        )
    if takes == EITHER:
        parameters[CHANNELS] = Choice((1, 3))

    def keep(function: F) -> F:
        ours = function.__module__.startswith("clapp.filters.")
        module = "" if ours else f"{function.__module__}:{getattr(function, '__name__', name)}"
        entry = Definition(
            name,
            function,
            parameters,
            source or module,
            takes,
            gives,
            border,
            reach,
            work,
            counted,
            space,
            check,
            ours,
        )
        FILTERS.add(name, entry)
        return function

    return keep


def luma(image: Picture) -> Picture:
    """ITU-R 601 luma, bit for bit as Pillow's mode `L`: uint8 (H, W, 3) -> uint8 (H, W)."""
    return cv2.transform(image.astype(np.float32), _LUMA_ROW).astype(np.uint8)


def given(image: Picture, takes: str) -> Target:
    """Convert a picture, uint8 (H, W, 3), to the input of a filter's function; see `TAKES`."""
    if takes in (GREY, GREY16):
        image = luma(image)
    if takes in (GREY16, COLOUR16):
        return image.astype(np.uint16) * np.uint16(257)
    return image


def over_maximum(magnitude: Plane) -> Picture:
    """Scale so that the maximum becomes 255, and truncate; changes its argument in place."""
    scale = magnitude.max() + np.float32(EPSILON)
    magnitude *= np.float32(255)  # before the division: the reference rounds in this order
    magnitude /= scale
    return magnitude.astype(np.uint8)


NORMALIZE = Choice(("none", "clip", "max", "unit", "offset"))
"""How a response that may be negative is converted to a target.

none: the magnitude, rounded and clipped to 255; clip: the positive part, likewise; max: the
magnitude, scaled so that the largest in the picture becomes 255; unit: the magnitude divided by the
largest possible one, float32; offset: 0.5 plus half of the response divided by the largest possible
magnitude, float32.
"""


def shown(response: Plane, normalize: str, gain: float) -> Target:
    """Convert a response, float32 (H, W), to a target as `NORMALIZE` says; may change its argument.

    Args:
        gain: the largest possible magnitude, divided by 255.
    """
    if normalize == "none":
        return as_levels(np.abs(response))
    if normalize == "clip":
        return as_levels(response)
    if normalize == "max":
        return over_maximum(np.abs(response))
    fraction = response / np.float32(255 * gain)
    if normalize == "offset":
        fraction = np.float32(0.5) + fraction / np.float32(2)
    return as_fractions(np.abs(fraction))


def as_picture(target: Target) -> Picture:
    """A target as a picture, uint8 (H, W, 3); floats are rounded to 255 levels."""
    if target.dtype != np.uint8:
        target = np.rint(target.clip(0, 1) * 255).astype(np.uint8)
    if target.ndim == 2:
        target = np.repeat(target[..., None], 3, axis=2)
    return np.ascontiguousarray(target)


def as_unit(targets: Target) -> Plane:
    """Targets of any shape as float32 in [0, 1]; floats already are in that range."""
    if targets.dtype == np.uint8:
        return cast(Plane, targets / np.float32(255))
    return targets.astype(np.float32, copy=False)


def as_levels(values: NDArray[Any]) -> Picture:
    """Round to grey levels and clip to 0 to 255."""
    levels: Picture = np.rint(values.clip(0, 255)).astype(np.uint8)
    return levels


def as_fractions(values: NDArray[Any]) -> Plane:
    """Values as float32, clipped to [0, 1], which rounding errors may have left."""
    fractions: Plane = np.asarray(values, np.float32).clip(0, 1)
    return fractions


def unless_scaled(reach: int | Callable[[Values], int]) -> Callable[[Values], int | None]:
    """A reach that is None with `normalize: max`, which depends on the whole picture."""

    def found(values: Values) -> int | None:
        if values["normalize"] == "max":
            return None
        return reach(values) if callable(reach) else reach

    return found
