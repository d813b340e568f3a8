"""Smoothing: blurs, and filters that preserve edges."""

from typing import Any

import cv2
import numpy as np

from clapp.filters.base import (
    EITHER,
    Picture,
    Plane,
    Values,
    as_fractions,
    filter,  # noqa: A004
)
from clapp.filters.parameters import Float, Int, Odd

_REFLECT = "reflected without the edge pixel"
_REPEATED = "the edge pixel again"
_KERNELS = "weights of its kernels"
_STEPS = "products, comparisons and exponentials"


def _gaussian_side(values: Values) -> int:
    """The kernel size that OpenCV chooses for a Gaussian blur of 8-bit pictures."""
    return int(values["ksize"]) or round(values["sigma"] * 6 + 1) | 1


@filter(
    "gaussian",
    source="cv2.GaussianBlur",
    takes=EITHER,
    border=_REFLECT,
    reach=lambda v: _gaussian_side(v) // 2,
    work=lambda v: 2 * _gaussian_side(v),
    counted=_KERNELS,
    sigma=Float(0.3, 20, 1.5),
    ksize=Odd(3, 121, 0, zero="as large as sigma asks for"),
)
def gaussian(image: Picture, sigma: float, ksize: int) -> Picture:
    """Gaussian blur."""
    return np.asarray(cv2.GaussianBlur(image, (ksize, ksize), sigma), np.uint8)


@filter(
    "box",
    source="cv2.blur",
    takes=EITHER,
    border=_REFLECT,
    reach=lambda v: v["ksize"] // 2,
    work=4,
    counted="sums by running rows and columns",
    ksize=Odd(3, 63, 5),
)
def box(image: Picture, ksize: int) -> Picture:
    """The mean of a square."""
    return np.asarray(cv2.blur(image, (ksize, ksize)), np.uint8)


@filter(
    "median",
    source="cv2.medianBlur",
    takes=EITHER,
    border=_REPEATED,
    reach=lambda v: v["ksize"] // 2,
    work=lambda v: v["ksize"] ** 2 * np.log2(v["ksize"] ** 2) / 2,
    counted="comparisons of a sort",
    ksize=Odd(3, 31, 5),
)
def median(image: Picture, ksize: int) -> Picture:
    """The median of a square."""
    return np.asarray(cv2.medianBlur(image, ksize), np.uint8)


@filter(
    "bilateral",
    source="cv2.bilateralFilter",
    takes=EITHER,
    border=_REFLECT,
    reach=lambda v: v["ksize"] // 2,
    work=lambda v: 4 * v["ksize"] ** 2,
    counted=_STEPS,
    ksize=Odd(3, 31, 9),
    sigma_color=Float(1, 255, 50),
    sigma_space=Float(0.5, 50, 3),
)
def bilateral(image: Picture, ksize: int, sigma_color: float, sigma_space: float) -> Picture:
    """Mean weighted by distance in pixels and in levels: bilateral (Tomasi, Manduchi 1998)."""
    return np.asarray(cv2.bilateralFilter(image, ksize, sigma_color, sigma_space), np.uint8)


@filter(
    "guided",
    source="cv2.boxFilter",
    takes=EITHER,
    border=_REFLECT,
    reach=lambda v: 2 * v["radius"],
    work=4 * 4 + 8,
    counted="sums by running rows and columns, and products",
    radius=Int(1, 30, 4),
    eps=Float(0.0001, 1, 0.01),
)
def guided(image: Picture, radius: int, eps: float) -> Plane:
    """Guided filter (He et al. 2013) with the picture as its own guide, each channel (float)."""
    x = image.astype(np.float64) / 255
    side = (2 * radius + 1, 2 * radius + 1)
    mean = cv2.boxFilter(x, -1, side)
    variance = cv2.boxFilter(x * x, -1, side) - mean * mean
    slope = variance / (variance + eps)
    offset = mean - slope * mean
    return as_fractions(cv2.boxFilter(slope, -1, side) * x + cv2.boxFilter(offset, -1, side))


@filter(
    "nlm",
    source="cv2.fastNlMeansDenoising",
    takes=EITHER,
    border=_REFLECT,
    reach=lambda v: v["search"] // 2 + v["patch"] // 2,
    work=lambda v: v["search"] ** 2 * (v["patch"] + 3),
    counted=_STEPS,
    strength=Float(1, 100, 10),
    patch=Odd(3, 11, 7),
    search=Odd(5, 31, 21),
)
def nlm(image: Picture, strength: float, patch: int, search: int) -> Picture:
    """Non-local means (Buades et al. 2005); colour in Lab, one strength for all channels."""
    if image.ndim == 2:
        result = cv2.fastNlMeansDenoising(image, None, strength, patch, search)
    else:
        result = cv2.fastNlMeansDenoisingColored(image, None, strength, strength, patch, search)
    return np.asarray(result, np.uint8)


@filter(
    "tv",
    space="can",
    source="skimage.restoration.denoise_tv_chambolle",
    takes=EITHER,
    border="no difference across the edge",
    work=lambda v: 16 * v["iterations"],
    counted="operations of all iterations",
    weight=Float(0.01, 5, 0.1),
    iterations=Int(1, 1000, 100),
    eps=Float(0.000001, 0.1, 0.0002),
)
def tv(image: Picture, weight: float, iterations: int, eps: float) -> Plane:
    """Total variation (Chambolle 2004), until the picture changes by less than eps (float)."""
    from skimage.restoration import denoise_tv_chambolle

    axis = None if image.ndim == 2 else -1
    result = denoise_tv_chambolle(  # type: ignore[no-untyped-call]
        image.astype(np.float64) / 255,
        weight=weight,
        eps=eps,
        max_num_iter=iterations,
        channel_axis=axis,
    )
    return as_fractions(result)


def _three(image: Picture) -> Picture:
    """Grey as three equal channels, for functions that accept colour only."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _as_given(result: Any, image: Picture) -> Picture:
    values = np.asarray(result, np.uint8)
    return values if image.ndim == 3 else np.ascontiguousarray(values[..., 0])


@filter(
    "edge_preserving",
    space="can",
    source="cv2.edgePreservingFilter",
    takes=EITHER,
    border="nothing",
    work=3 * 2 * 6,
    counted="operations of the domain transform",
    sigma_s=Float(1, 200, 60),
    sigma_r=Float(0.01, 1, 0.4),
)
def edge_preserving(image: Picture, sigma_s: float, sigma_r: float) -> Picture:
    """Recursive smoothing along rows and columns that stops at edges (Gastal, Oliveira 2011)."""
    three = _three(image)
    result = cv2.edgePreservingFilter(three, flags=1, sigma_s=sigma_s, sigma_r=sigma_r)
    return _as_given(result, image)


@filter(
    "detail",
    space="can",
    source="cv2.detailEnhance",
    takes=EITHER,
    border="nothing",
    work=3 * 2 * 6 + 10,
    counted="operations of the domain transform",
    sigma_s=Float(1, 200, 10),
    sigma_r=Float(0.01, 1, 0.15),
)
def detail(image: Picture, sigma_s: float, sigma_r: float) -> Picture:
    """Detail enhancement: multiplies by three the detail that edge-preserving smoothing removes."""
    return _as_given(cv2.detailEnhance(_three(image), sigma_s=sigma_s, sigma_r=sigma_r), image)
