"""The classical filters that networks learn to stand in for.

A filter maps an RGB picture, uint8 (H, W, 3), to one grey channel, uint8 (H, W). It is given as

- a name of the registry below (`sobel_3`, ...),
- `module:function`, any importable function with that signature, or
- `{kernel: [[...]], normalize: none|max|clip}`, a linear filter written in the configuration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from clapp.errors import ConfigError, UserError
from clapp.filters.code import checked, load_function, try_filter
from clapp.filters.kernels import KERNEL_15, KERNEL_41, KERNEL_51, Weights, inline_kernel
from clapp.system.suggest import hint

if TYPE_CHECKING:
    from clapp.config import Config

FilterSpec = str | Mapping[str, Any]
Picture = NDArray[np.uint8]
Plane = NDArray[np.float32]
FilterFunction = Callable[[Picture], Picture]

EPSILON = 1e-8
"""Added to a maximum before a division by it."""
LUMA = (19595, 38470, 7471)
"""Pillow's `L` is (19595 R + 38470 G + 7471 B + 2^15) >> 16."""
_REGISTRY: dict[str, FilterFunction] = {}
# Every product and partial sum of `L` has fewer than 25 bits, so float32 holds them exactly, and
# truncation equals the shift.
_LUMA_ROW = np.array([[*(weight / 2**16 for weight in LUMA), 0.5]], np.float32)


@dataclass(frozen=True)
class Filter:
    """A resolved filter. It pickles as its specification, so other processes resolve it anew."""

    name: str
    spec: FilterSpec
    function: FilterFunction = field(repr=False, compare=False)

    def __call__(self, image: Picture) -> Picture:
        """Filter uint8 (H, W, 3) to uint8 (H, W)."""
        return self.function(image)

    def __reduce__(self) -> tuple[Callable[[FilterSpec], "Filter"], tuple[FilterSpec]]:
        return resolve, (self.spec,)


def known_filters() -> list[str]:
    """The names of the registry, sorted."""
    return sorted(_REGISTRY)


def resolve(spec: FilterSpec) -> Filter:
    """The filter that `spec` stands for.

    Raises:
        ConfigError: an unknown name (the known ones are listed), a function that cannot be
            imported, or a mapping that is not a kernel.
    """
    if isinstance(spec, Mapping):
        return _inline(spec)
    if not isinstance(spec, str):
        raise ConfigError(f"a filter is a name or a mapping with a kernel, not {spec!r}")
    if spec in _REGISTRY:
        return Filter(spec, spec, _REGISTRY[spec])
    if ":" in spec:
        return Filter(spec, spec, checked(spec, load_function(spec)))
    raise ConfigError(
        f"unknown filter {spec!r}; {hint(spec, _REGISTRY)}known: {', '.join(known_filters())}, "
        "module:function, or a mapping {kernel: [[...]], normalize: none|max|clip}"
    )


def filter_name(spec: FilterSpec) -> str:
    """What to call a filter, also where its code is missing."""
    return spec if isinstance(spec, str) else resolve(spec).name


def apply_filter(spec: FilterSpec, image: Picture) -> Picture:
    """Filter one picture.

    Args:
        spec: a name, `module:function`, or a mapping as in a configuration file.
        image: uint8 (H, W, 3) in RGB order, or (H, W), which stands for three equal channels.

    Returns:
        uint8 (H, W).

    Raises:
        ConfigError: see `resolve`.
        UserError: the picture has another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UserError(
            "a picture is a uint8 array of shape (H, W, 3) or (H, W), "
            f"not {image.dtype} {image.shape}"
        )
    if image.size == 0:
        raise UserError(f"a picture needs at least one pixel, not {image.shape}")
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return resolve(spec)(np.ascontiguousarray(image))


def check_filter(config: "Config") -> None:
    """Call the filter of a configuration on pictures as large as its crops; see `try_filter`.

    Raises:
        UserError: see `try_filter`.
    """
    target = resolve(config.target_filter)
    try_filter(target, target.name, config.train_data.crop_size, config.valid_data.crop_size)


def luma(image: Picture) -> Picture:
    """ITU-R 601 luma, bit for bit as Pillow's mode `L`: uint8 (H, W, 3) -> uint8 (H, W)."""
    return cv2.transform(image.astype(np.float32), _LUMA_ROW).astype(np.uint8)


def register_filter(name: str) -> Callable[[FilterFunction], FilterFunction]:
    """Enter the decorated function into the registry."""

    def enter(function: FilterFunction) -> FilterFunction:
        _REGISTRY[name] = function
        return function

    return enter


@register_filter("sobel_3")
def sobel_3(image: Picture) -> Picture:
    """Gradient magnitude of the blurred grey picture, over its maximum (OpenCV's 3x3 Sobel)."""
    return _sobel(image, 3)


@register_filter("sobel_canny_5")
def sobel_canny_5(image: Picture) -> Picture:
    """OpenCV's Canny (thresholds 50 and 150) of the 5x5 Sobel magnitude."""
    return cast(Picture, cv2.Canny(_sobel(image, 5), 50, 150))


@register_filter("random_41")
def random_41(image: Picture) -> Picture:
    """One fixed random 3x3 kernel for each channel, all weights positive with sum one."""
    response = _convolve(image, _ROWS_41)
    return (np.clip(response, 0, 1) * np.float32(255)).astype(np.uint8)


@register_filter("random2_51_15")
def random2_51_15(image: Picture) -> Picture:
    """Magnitude of two fixed random antisymmetric kernels, over its maximum."""
    first, second = _convolve(image, _ROWS_51), _convolve(image, _ROWS_15)
    magnitude = np.sqrt(first * first + second * second)
    magnitude /= magnitude.max() + np.float32(EPSILON)
    return (magnitude * np.float32(255)).astype(np.uint8)


def _sobel(image: Picture, size: int) -> Picture:
    blurred = cv2.GaussianBlur(luma(image), (3, 3), 0)
    dx = cv2.Sobel(blurred, cv2.CV_16S, 1, 0, ksize=size).astype(np.float32)
    dy = cv2.Sobel(blurred, cv2.CV_16S, 0, 1, ksize=size).astype(np.float32)
    dx *= dx
    dy *= dy
    dx += dy
    return _over_maximum(np.sqrt(dx, out=dx))


def _over_maximum(magnitude: Plane) -> Picture:
    """Scale so that the maximum becomes 255, and truncate; changes its argument."""
    scale = magnitude.max() + np.float32(EPSILON)
    magnitude *= np.float32(255)  # before the division: the reference rounds in this order
    magnitude /= scale
    return magnitude.astype(np.uint8)


def _interleaved(kernel: Weights) -> Weights:
    """(3, KH, KW) as (KH, 3 * KW): the order in which an RGB picture lies in memory."""
    _, height, width = kernel.shape
    return kernel.transpose(1, 2, 0).reshape(height, 3 * width)


_ROWS_41, _ROWS_51, _ROWS_15 = map(_interleaved, (KERNEL_41, KERNEL_51, KERNEL_15))


def _convolve(image: Picture, kernel: Weights) -> Plane:
    """Correlate RGB in [0, 1], zeros outside, with a 3x3x3 kernel laid out by `_interleaved`.

    One pass over the interleaved rows keeps the channels in a single running sum. Summing three
    rounded responses instead moves values across whole grey levels where the picture is white.
    """
    rows = image.astype(np.float32).reshape(len(image), -1)  # (H, 3 W)
    rows /= np.float32(255)
    response = cv2.filter2D(rows, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    return cast(Plane, response[:, 1::3])  # where the kernel is centred on the green of a pixel


def _inline(spec: Mapping[str, Any]) -> Filter:
    """A kernel written in the configuration."""
    kernel, mode = inline_kernel(spec)
    finish = _NORMALISERS[mode]
    height, width = kernel.shape[-2:]
    name = f"kernel {height}x{width}"
    return Filter(name, dict(spec), lambda image: finish(_correlate(image, kernel)))


def _correlate(image: Picture, kernel: Weights) -> Plane:
    """OpenCV's correlation, reflected border, of grey or of each channel, in float32 on [0, 255].

    A kernel of even size is anchored right of and below its middle, as cv2.filter2D does.
    """
    if kernel.ndim == 2:
        return cast(Plane, cv2.filter2D(luma(image), cv2.CV_32F, kernel))
    responses = (
        cv2.filter2D(np.ascontiguousarray(image[..., channel]), cv2.CV_32F, plane)
        for channel, plane in enumerate(kernel)
    )
    return cast(Plane, sum(responses, np.float32(0)))


def _clipped(response: Plane) -> Picture:
    return np.clip(response, 0, 255).astype(np.uint8)


_NORMALISERS: dict[str, Callable[[Plane], Picture]] = {
    "none": lambda response: _clipped(np.abs(response)),
    "max": lambda response: _over_maximum(np.abs(response)),
    "clip": _clipped,
}
"""How a kernel's response becomes grey levels, all truncated towards zero.

none: its magnitude as it is; clip: its positive part; both stop at 255. max: its magnitude, scaled
so that the largest in the picture becomes 255.
"""
