"""Linear filters: kernels written in a configuration, and named kernels."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from clapp.errors import ConfigError
from clapp.filters.base import (
    EITHER,
    GREY,
    GREY_WORK,
    NORMALIZE,
    Facts,
    Picture,
    Plane,
    Target,
    Values,
    filter,  # noqa: A004
    luma,
    over_maximum,
    shown,
    unless_scaled,
)
from clapp.filters.edges import laplacian_gain
from clapp.filters.parameters import Choice, Float, Odd

Weights = NDArray[np.float32]
LARGEST = 1e33
"""Largest sum of a kernel's magnitudes; 255 times its response must fit in float32."""
MODES = ("none", "max", "clip")
"""How the response of a configuration's kernel becomes grey levels; see `_NORMALISERS`."""
_REFLECT = "reflected without the edge pixel"
_KERNELS = "weights of its kernels"


def inline(spec: Mapping[str, Any]) -> tuple[str, Callable[[Picture], Target], Facts]:
    """The name, the function and the facts of a kernel written in the configuration.

    Raises:
        ConfigError: see `inline_kernel`.
    """
    kernel, mode = inline_kernel(spec)
    finish = _NORMALISERS[mode]
    height, width = kernel.shape[-2:]
    grey = GREY_WORK if kernel.ndim == 2 else 0
    which = "3 to make grey and its kernel" if grey else "its kernel"
    facts = Facts(
        "cv2.filter2D",
        border=_REFLECT,
        reach=None if mode == "max" else max(height, width) // 2,
        work=kernel.size + grey,
        counted=f"weights of its kernels: {which}",
    )
    return f"kernel {height}x{width}", lambda image: finish(_correlate(image, kernel)), facts


def inline_kernel(spec: Mapping[str, Any]) -> tuple[Weights, str]:
    """Read `{kernel: [[...]], normalize: none|max|clip}`.

    Returns:
        The kernel, (KH, KW) for the grey picture or (3, KH, KW) with a plane for each channel, and
        one of `MODES`.

    Raises:
        ConfigError: an unknown key or mode, or a kernel of another shape or not of finite numbers.
    """
    unknown = [key for key in spec if key not in ("kernel", "normalize")]
    if unknown:
        raise ConfigError(
            f"filter: unknown key {unknown[0]!r}; known: kernel, normalize, or a name and its "
            "parameters"
        )
    if "kernel" not in spec:
        raise ConfigError("filter: the key kernel, or name, is required in a mapping")
    kernel = _weights(spec["kernel"])
    mode = spec.get("normalize", "clip")
    if not isinstance(mode, str) or mode not in MODES:
        allowed = ", ".join(MODES)
        raise ConfigError(f"filter: normalize {mode!r} is not allowed; allowed: {allowed}")
    return kernel, mode


def _weights(value: Any) -> Weights:
    try:
        kernel = np.array(value)
    except ValueError as error:
        raise ConfigError("filter: kernel must be rows of equal length") from error
    if kernel.size == 0 or not (kernel.ndim == 2 or (kernel.ndim == 3 and len(kernel) == 3)):
        raise ConfigError(
            "filter: kernel must be a list of rows, or three such lists (red, green, blue), "
            f"not of shape {kernel.shape}"
        )
    if kernel.dtype.kind not in "iuf" or not np.isfinite(kernel).all():
        raise ConfigError("filter: kernel must hold finite numbers")
    if np.abs(kernel.astype(np.float64) / LARGEST).sum() > 1:
        raise ConfigError(
            f"filter: the magnitudes of a kernel may add up to {LARGEST:g} at most; beyond, "
            "float32 overflows"
        )
    return kernel.astype(np.float32)


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
    "max": lambda response: over_maximum(np.abs(response)),
    "clip": _clipped,
}
"""How a kernel's response is converted to grey levels; all are truncated towards zero.

none: the magnitude, clipped to 255; clip: the positive part, clipped to 255; max: the magnitude,
scaled so that the largest in the picture becomes 255.
"""


def _gaussian_side(sigma: float) -> int:
    """The kernel size that OpenCV chooses for a Gaussian blur of 8-bit pictures."""
    return round(sigma * 6 + 1) | 1


@filter(
    "log",
    source="cv2.GaussianBlur, cv2.Laplacian",
    takes=GREY,
    gives=1,
    border=_REFLECT,
    reach=unless_scaled(lambda v: _gaussian_side(v["sigma"]) // 2 + max(1, v["ksize"] // 2)),
    work=lambda v: 2 * _gaussian_side(v["sigma"]) + max(3, v["ksize"]) ** 2,
    counted=_KERNELS,
    sigma=Float(0.3, 10, 1),
    ksize=Choice((3, 1, 5, 7)),
    normalize=NORMALIZE,
)
def log(image: Picture, sigma: float, ksize: int, normalize: str) -> Target:
    """Laplacian of a Gaussian: the Laplacian of the blurred picture."""
    blurred = cv2.GaussianBlur(image, (0, 0), sigma)
    response = cast(Plane, cv2.Laplacian(blurred, cv2.CV_32F, ksize=ksize))
    return shown(response, normalize, laplacian_gain(ksize))


def _ordered(values: Values) -> str | None:
    low, high = values["low"], values["high"]
    return None if low < high else f"low {low:g} must be below high {high:g}"


@filter(
    "dog",
    source="skimage.filters.difference_of_gaussians",
    takes=GREY,
    gives=1,
    border="the edge pixel again",
    reach=unless_scaled(lambda v: round(4 * v["high"])),
    work=lambda v: 4 * round(4 * (v["low"] + v["high"])) + 5,
    counted=_KERNELS,
    check=_ordered,
    low=Float(0.3, 20, 1),
    high=Float(0.3, 20, 1.6),
    normalize=NORMALIZE,
)
def dog(image: Picture, low: float, high: float, normalize: str) -> Target:
    """Difference of two Gaussians: the finer blur minus the coarser one."""
    from skimage.filters import difference_of_gaussians

    response = difference_of_gaussians(image.astype(np.float32), low, high)  # type: ignore[no-untyped-call]
    return shown(np.asarray(response, np.float32), normalize, 1)


@filter(
    "gabor",
    source="cv2.getGaborKernel, cv2.filter2D",
    takes=GREY,
    gives=1,
    border=_REFLECT,
    reach=unless_scaled(lambda v: v["ksize"] // 2),
    work=lambda v: v["ksize"] ** 2,
    counted=_KERNELS,
    ksize=Odd(3, 63, 9),
    sigma=Float(0.5, 20, 2),
    theta=Float(0, 180, 0),
    wavelength=Float(2, 60, 5),
    aspect=Float(0.1, 10, 0.5),
    phase=Float(-180, 180, 90),
    normalize=NORMALIZE,
)
def gabor(
    image: Picture,
    ksize: int,
    sigma: float,
    theta: float,
    wavelength: float,
    aspect: float,
    phase: float,
    normalize: str,
) -> Target:
    """Gabor: a wave times a Gaussian; theta, phase in degrees, sigma, wavelength in pixels."""
    angle, shift = np.deg2rad(theta), np.deg2rad(phase)
    kernel = cv2.getGaborKernel(
        (ksize, ksize), sigma, angle, wavelength, aspect, shift, ktype=cv2.CV_32F
    )
    response = cast(Plane, cv2.filter2D(image, cv2.CV_32F, kernel))
    gain = max(float(kernel.clip(min=0).sum()), -float(kernel.clip(max=0).sum()))
    return shown(response, normalize, gain)


@filter(
    "emboss",
    source="cv2.filter2D",
    takes=EITHER,
    border=_REFLECT,
    reach=1,
    work=9,
    counted=_KERNELS,
    strength=Float(0.1, 5, 1),
)
def emboss(image: Picture, strength: float) -> Picture:
    """Emboss, with light from the lower right: the 3x3 kernel -2 -1 0, -1 1 1, 0 1 2."""
    relief = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], np.float32) * np.float32(strength)
    relief[1, 1] = 1
    return np.asarray(cv2.filter2D(image, -1, relief), np.uint8)


@filter(
    "sharpen",
    source="cv2.filter2D",
    takes=EITHER,
    border=_REFLECT,
    reach=1,
    work=5,
    counted=_KERNELS,
    amount=Float(0.1, 10, 1),
)
def sharpen(image: Picture, amount: float) -> Picture:
    """Sharpen: the picture minus its Laplacian, by the cross-shaped 3x3 kernel."""
    cross = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32) * np.float32(amount)
    cross[1, 1] += 1
    return np.asarray(cv2.filter2D(image, -1, cross), np.uint8)


@filter(
    "unsharp",
    source="cv2.GaussianBlur, cv2.addWeighted",
    takes=EITHER,
    border=_REFLECT,
    reach=lambda v: _gaussian_side(v["sigma"]) // 2,
    work=lambda v: 2 * _gaussian_side(v["sigma"]) + 2,
    counted=_KERNELS,
    sigma=Float(0.3, 20, 1.5),
    amount=Float(0.1, 10, 1),
)
def unsharp(image: Picture, sigma: float, amount: float) -> Picture:
    """Unsharp masking: the picture plus `amount` times its difference from a blurred copy."""
    blurred = cv2.GaussianBlur(image, (0, 0), sigma)
    return np.asarray(cv2.addWeighted(image, 1 + amount, blurred, -amount, 0), np.uint8)
