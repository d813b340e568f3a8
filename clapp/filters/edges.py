"""Edges and corners: derivatives, Canny, Harris, and the distance to the next edge."""

import math
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from clapp.filters.base import (
    GREY,
    NORMALIZE,
    Picture,
    Plane,
    Target,
    Values,
    as_fractions,
    filter,  # noqa: A004
    luma,
    over_maximum,
    shown,
    unless_scaled,
)
from clapp.filters.parameters import Choice, Flag, Float, Int

DIRECTION = Choice(("magnitude", "x", "y"))
_REFLECT = "reflected without the edge pixel"
_REPEATED = "reflected with the edge pixel"
_KERNELS = "weights of its kernels"
_HYSTERESIS = "weights of its kernels and comparisons, without following edges"


@filter(
    "sobel_3",
    source="cv2.Sobel",
    gives=1,
    border=_REFLECT,
    work=3 + 9 + 2 * 9,
    counted="weights of its kernels: 3 to make grey, 9 to blur, 9 for each derivative",
)
def sobel_3(image: Picture) -> Picture:
    """Gradient magnitude of the blurred grey picture, over its maximum (OpenCV's 3x3 Sobel)."""
    return _blurred_sobel(image, 3)


@filter("sobel_canny_5", source="cv2.Canny, cv2.Sobel", gives=1, border=_REFLECT)
def sobel_canny_5(image: Picture) -> Picture:
    """OpenCV's Canny (thresholds 50 and 150) of the 5x5 Sobel magnitude."""
    return cast(Picture, cv2.Canny(_blurred_sobel(image, 5), 50, 150))


def _blurred_sobel(image: Picture, size: int) -> Picture:
    blurred = cv2.GaussianBlur(luma(image), (3, 3), 0)
    dx = cv2.Sobel(blurred, cv2.CV_16S, 1, 0, ksize=size).astype(np.float32)
    dy = cv2.Sobel(blurred, cv2.CV_16S, 0, 1, ksize=size).astype(np.float32)
    dx *= dx
    dy *= dy
    dx += dy
    return over_maximum(np.sqrt(dx, out=dx))


def _gain(x: NDArray[Any], y: NDArray[Any]) -> float:
    """The largest response of a separable kernel, given by its factors, for [0, 1]."""
    kernel = np.outer(y, x)
    return float(max(kernel.clip(min=0).sum(), -kernel.clip(max=0).sum()))


def _order(values: Values) -> str | None:
    dx, dy, ksize = (values[key] for key in ("dx", "dy", "ksize"))
    if values["magnitude"] and not (dx and dy):
        return "magnitude is of two derivatives, so dx and dy must be at least 1"
    if not dx + dy:
        return "dx and dy are both 0; one must be at least 1"
    if max(dx, dy) >= ksize:
        return f"ksize {ksize} must be larger than dx and dy"
    return None


@filter(
    "sobel",
    source="cv2.Sobel",
    takes=GREY,
    gives=1,
    border=_REFLECT,
    reach=unless_scaled(lambda v: v["ksize"] // 2),
    work=lambda v: v["ksize"] ** 2 * (1 + v["magnitude"]),
    counted=_KERNELS,
    check=_order,
    ksize=Choice((3, 5, 7)),
    dx=Int(0, 3, 1),
    dy=Int(0, 3, 1),
    magnitude=Flag(True),
    normalize=NORMALIZE,
)
def sobel(image: Picture, ksize: int, dx: int, dy: int, magnitude: bool, normalize: str) -> Target:
    """Derivative of order dx in x and dy in y; magnitude: that of the derivatives in x and in y."""
    orders = [(dx, 0), (0, dy)] if magnitude else [(dx, dy)]
    responses = [cv2.Sobel(image, cv2.CV_32F, x, y, ksize=ksize) for x, y in orders]
    gains = [_gain(*cv2.getDerivKernels(x, y, ksize)) for x, y in orders]
    return _combined(cast(list[Plane], responses), gains, normalize)


def _combined(responses: list[Plane], gains: list[float], normalize: str) -> Target:
    """The only response, or the magnitude of two responses."""
    if len(responses) == 1:
        return shown(responses[0], normalize, gains[0])
    return shown(np.hypot(*responses), normalize, math.hypot(*gains))


@filter(
    "scharr",
    source="cv2.Scharr",
    takes=GREY,
    gives=1,
    border=_REFLECT,
    reach=unless_scaled(1),
    work=lambda v: 9 * (1 + (v["direction"] == "magnitude")),
    counted=_KERNELS,
    direction=DIRECTION,
    normalize=NORMALIZE,
)
def scharr(image: Picture, direction: str, normalize: str) -> Target:
    """Derivatives by the 3x3 kernels of Scharr (3, 10, 3)."""
    orders = {"magnitude": [(1, 0), (0, 1)], "x": [(1, 0)], "y": [(0, 1)]}[direction]
    responses = [cv2.Scharr(image, cv2.CV_32F, x, y) for x, y in orders]
    return _combined(cast(list[Plane], responses), [16.0] * len(orders), normalize)


@filter(
    "prewitt",
    source="skimage.filters.prewitt",
    takes=GREY,
    gives=1,
    border=_REPEATED,
    reach=1,
    work=2 * 9,
    counted=_KERNELS,
)
def prewitt(image: Picture) -> Plane:
    """Gradient magnitude by the 3x3 kernels of Prewitt, as scikit-image scales it (float)."""
    from skimage.filters import prewitt as by_skimage

    return as_fractions(by_skimage(_fraction(image)))  # type: ignore[no-untyped-call]


@filter(
    "roberts",
    source="skimage.filters.roberts",
    takes=GREY,
    gives=1,
    border=_REPEATED,
    reach=1,
    work=2 * 2,
    counted=_KERNELS,
)
def roberts(image: Picture) -> Plane:
    """Gradient magnitude by the 2x2 diagonal differences of Roberts (float)."""
    from skimage.filters import roberts as by_skimage

    return as_fractions(by_skimage(_fraction(image)))  # type: ignore[no-untyped-call]


def _fraction(image: Picture) -> Plane:
    return image.astype(np.float32) / np.float32(255)


@filter(
    "laplacian",
    source="cv2.Laplacian",
    takes=GREY,
    gives=1,
    border=_REFLECT,
    reach=unless_scaled(lambda v: max(1, v["ksize"] // 2)),
    work=lambda v: max(3, v["ksize"]) ** 2,
    counted=_KERNELS,
    ksize=Choice((3, 1, 5, 7)),
    normalize=NORMALIZE,
)
def laplacian(image: Picture, ksize: int, normalize: str) -> Target:
    """The sum of the second derivatives; ksize 1 is the 3x3 kernel with a cross of ones."""
    response = cast(Plane, cv2.Laplacian(image, cv2.CV_32F, ksize=ksize))
    return shown(response, normalize, laplacian_gain(ksize))


def laplacian_gain(ksize: int) -> float:
    """The largest response of OpenCV's Laplacian to a picture in [0, 1]."""
    if ksize == 1:
        return 4.0
    second, smooth = cv2.getDerivKernels(2, 0, ksize)
    kernel = np.outer(smooth, second)
    kernel = kernel + kernel.T
    return float(max(kernel.clip(min=0).sum(), -kernel.clip(max=0).sum()))


def _thresholds(values: Values) -> str | None:
    low, high = values["low"], values["high"]
    return f"low {low:g} must not be above high {high:g}" if low > high else None


@filter(
    "canny",
    space="can",
    source="cv2.Canny",
    takes=GREY,
    gives=1,
    border="the edge pixel again",
    work=lambda v: 2 * v["aperture"] ** 2 + 8,
    counted=_HYSTERESIS,
    check=_thresholds,
    low=Float(0, 100000, 50),
    high=Float(0, 100000, 150),
    aperture=Choice((3, 5, 7)),
    root=Flag(False),
)
def canny(image: Picture, low: float, high: float, aperture: int, root: bool) -> Picture:
    """Edges by hysteresis: 0 or 255; root: Euclidean gradients instead of a sum of magnitudes."""
    return np.asarray(cv2.Canny(image, low, high, apertureSize=aperture, L2gradient=root), np.uint8)


@filter(
    "harris",
    source="cv2.cornerHarris",
    takes=GREY,
    gives=1,
    border=_REFLECT,
    work=lambda v: 2 * v["ksize"] ** 2 + 3 * v["block"] ** 2 + 8,
    counted="weights of its kernels and products",
    block=Int(2, 15, 2),
    ksize=Choice((3, 5, 7)),
    k=Float(0.01, 0.24, 0.04),
)
def harris(image: Picture, block: int, ksize: int, k: float) -> Plane:
    """Harris corner response: its positive part, divided by its maximum (float)."""
    response = np.asarray(cv2.cornerHarris(image, block, ksize, k), np.float32).clip(min=0)
    highest = response.max()
    return response / highest if highest > 0 else response


@filter(
    "edge_distance",
    space="can",
    source="cv2.distanceTransform",
    takes=GREY,
    gives=1,
    border="the edge pixel again",
    work=2 * 9 + 8 + 2 * 8,
    counted=_HYSTERESIS,
    check=_thresholds,
    low=Float(0, 100000, 50),
    high=Float(0, 100000, 150),
    most=Float(1, 1000, 16),
    mask=Choice((5, 3)),
)
def edge_distance(image: Picture, low: float, high: float, most: float, mask: int) -> Plane:
    """Distance to the nearest Canny edge in pixels, divided by `most`, at most 1 (float)."""
    free = cv2.bitwise_not(cv2.Canny(image, low, high))
    if free.all():  # without any edge OpenCV returns a meaningless number
        return np.ones(image.shape, np.float32)
    distance = np.asarray(cv2.distanceTransform(free, cv2.DIST_L2, mask), np.float32)
    return (distance / np.float32(most)).clip(0, 1)
