"""What a classical filter is, their registry, and what several of them share.

A filter maps an RGB picture, uint8 (H, W, 3), to a target of the same height and width: (H, W) or
(H, W, 3), uint8, or float32 in [0, 1], which keeps what eight bits would cut off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
"""FLOPs are those of one picture of this height and width, as those of networks are."""
EPSILON = 1e-8
"""Added to a maximum before a division by it."""
LUMA = (19595, 38470, 7471)
"""Pillow's `L` is (19595 R + 38470 G + 7471 B + 2^15) >> 16."""
GREY_WORK = 3
"""Multiply-adds a pixel to make grey of colour."""
# Every product and partial sum of `L` has fewer than 25 bits, so float32 holds them exactly, and
# truncation equals the shift.
_LUMA_ROW = np.array([[*(weight / 2**16 for weight in LUMA), 0.5]], np.float32)

COLOUR, GREY, EITHER, GREY16, COLOUR16 = "colour", "grey", "either", "grey16", "colour16"
"""What a filter's function is given: uint8 (H, W, 3); uint8 (H, W); one of these, as the parameter
`channels` says; uint16 (H, W) or (H, W, 3) from 0 to 65535."""
TAKES = (COLOUR, GREY, EITHER, GREY16, COLOUR16)
CHANNELS = "channels"
"""Parameter of the filters that take grey or colour."""


@dataclass(frozen=True)
class Facts:
    """What is known of a filter beside its function.

    Attributes:
        source: the function that computes it, such as "cv2.Canny".
        takes: see `TAKES`.
        border: what is assumed outside of the picture, in words.
        reach: pixels up, down, left and right that a target pixel depends on; None: the whole
            picture, or not known.
        work: multiply-adds, or other operations, a pixel; None: not known.
        counted: what `work` counts, in words.
        space: the search space to begin with.
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
        """Operations for a picture of 224x224, 2 for a multiply-add; None: not known."""
        return None if self.work is None else round(2 * self.work * SIDE**2)

    @property
    def channels_in(self) -> int:
        """Channels of what the function is given."""
        return 1 if self.takes in (GREY, GREY16) else 3


@dataclass(frozen=True)
class Filter:
    """A resolved filter. It pickles as its specification, so other processes resolve it anew.

    Attributes:
        name: what to call it: "canny(low=20)".
        spec: as a configuration has it.
        channels: of its targets, 1 or 3; None: known when it has been called.
    """

    name: str
    spec: FilterSpec
    function: FilterFunction = field(repr=False, compare=False)
    channels: int | None = field(default=1, compare=False)
    facts: Facts = field(default=Facts(""), repr=False, compare=False)

    def __call__(self, image: Picture) -> Target:
        """Filter uint8 (H, W, 3) to (H, W) or (H, W, 3), uint8 or float32 in [0, 1]."""
        return cast(Target, self.function(image))

    def __reduce__(self) -> tuple[Callable[[FilterSpec], "Filter"], tuple[FilterSpec]]:
        from clapp.filters.library import resolve

        return resolve, (self.spec,)


@dataclass(frozen=True, eq=False)
class Definition:
    """A registered filter, whose parameters are still open.

    Attributes:
        function: takes a picture as `takes` says and each parameter by name.
        channels: of its targets; None: known when it has been called.
        reach, work: numbers, or functions of the parameters; see `Facts`.
        check: what is wrong with values that are each allowed by themselves, or None.
        ours: whether it is part of the package, whose results need no checking.
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
        """All parameters.

        Raises:
            ConfigError: an unknown one, or one that is not allowed.
        """
        values = complete(self.name, self.parameters, given)
        wrong = self.check(values) if self.check is not None else None
        if wrong:
            raise ConfigError(f"filter {self.name}: {wrong}")
        return values

    def facts(self, values: Values) -> Facts:
        """What is known of it with these parameters."""
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
        """Channels of its targets with these parameters."""
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
        name: what configurations call it.
        gives: channels of its targets.
        parameters: what it takes beside the picture.

    The others are those of `Definition`. A filter that takes `EITHER` gets the parameter `channels`
    (1, 3), which its function does not see.
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
    """A picture, uint8 (H, W, 3), as a filter's function is given it; see `TAKES`."""
    if takes in (GREY, GREY16):
        image = luma(image)
    if takes in (GREY16, COLOUR16):
        return image.astype(np.uint16) * np.uint16(257)
    return image


def over_maximum(magnitude: Plane) -> Picture:
    """Scale so that the maximum becomes 255, and truncate; changes its argument."""
    scale = magnitude.max() + np.float32(EPSILON)
    magnitude *= np.float32(255)  # before the division: the reference rounds in this order
    magnitude /= scale
    return magnitude.astype(np.uint8)


NORMALIZE = Choice(("none", "clip", "max", "unit", "offset"))
"""How a response that may be negative becomes a target.

none: its magnitude, rounded, at most 255; clip: its positive part likewise; max: its magnitude,
scaled so that the largest in the picture becomes 255; unit: its magnitude over the largest that is
possible, float32; offset: 0.5 and half of it over the largest that is possible, float32.
"""


def shown(response: Plane, normalize: str, gain: float) -> Target:
    """A response in grey levels, float32 (H, W), as `NORMALIZE` says; may change its argument.

    Args:
        gain: the largest magnitude that is possible, over 255.
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


def as_unit(targets: Target) -> Plane:
    """Targets of any shape as float32 in [0, 1]; floats are so already."""
    if targets.dtype == np.uint8:
        return cast(Plane, targets / np.float32(255))
    return targets.astype(np.float32, copy=False)


def as_levels(values: NDArray[Any]) -> Picture:
    """Grey levels, rounded; what lies outside of 0 to 255 stops there."""
    levels: Picture = np.rint(values.clip(0, 255)).astype(np.uint8)
    return levels


def as_fractions(values: NDArray[Any]) -> Plane:
    """Values of [0, 1] as float32; those that rounding has put outside stop at its ends."""
    fractions: Plane = np.asarray(values, np.float32).clip(0, 1)
    return fractions


def unless_scaled(reach: int | Callable[[Values], int]) -> Callable[[Values], int | None]:
    """The reach of a filter that `normalize: max` lets depend on the whole picture."""

    def found(values: Values) -> int | None:
        if values["normalize"] == "max":
            return None
        return reach(values) if callable(reach) else reach

    return found
