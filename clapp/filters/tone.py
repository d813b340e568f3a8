"""Tone and colour: histograms, curves, colour matrices, sketches."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from clapp.filters.base import (
    EITHER,
    GREY,
    Picture,
    as_levels,
    filter,  # noqa: A004
)
from clapp.filters.parameters import Float, Int, Matrix

SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
"""Rows: red, green and blue of the result, from red, green and blue."""
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_POINT = "none is needed"


@filter(
    "grey",
    source="PIL.Image.convert",
    takes=GREY,
    gives=1,
    border=_POINT,
    reach=0,
    work=0,
    counted="3 to make grey",
)
def grey(image: Picture) -> Picture:
    """The grey picture itself: ITU-R 601 luma."""
    return image


@filter(
    "gamma",
    source="cv2.LUT",
    takes=EITHER,
    border=_POINT,
    reach=0,
    work=1,
    counted="values looked up",
    gamma=Float(0.1, 10, 2.2),
)
def gamma(image: Picture, gamma: float) -> Picture:
    """Gamma curve: each value in [0, 1] to the power of gamma, rounded."""
    return np.asarray(cv2.LUT(image, gamma_table(gamma)), np.uint8)


def gamma_table(gamma: float) -> Picture:
    """The lookup table of the gamma curve, uint8 (256,)."""
    return as_levels(255 * (np.arange(256) / 255) ** gamma)


@filter(
    "equalize",
    space="global",
    source="cv2.equalizeHist",
    takes=EITHER,
    border=_POINT,
    work=2,
    counted="counts and values looked up",
)
def equalize(image: Picture) -> Picture:
    """Histogram equalisation; of colour pictures, the luma (YCrCb) is equalised."""
    return _of_lightness(image, cv2.equalizeHist, cv2.COLOR_RGB2YCrCb, cv2.COLOR_YCrCb2RGB)


@filter(
    "clahe",
    space="global",
    source="cv2.createCLAHE",
    takes=EITHER,
    border="reflected where the tiles do not fit",
    work=2 + 8,
    counted="counts, values looked up and products",
    clip=Float(0.5, 100, 2),
    tiles=Int(1, 32, 8),
)
def clahe(image: Picture, clip: float, tiles: int) -> Picture:
    """Contrast-limited equalisation of tiles (Zuiderveld 1994); of colour, the L of Lab."""
    apply = cv2.createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles)).apply
    return _of_lightness(image, apply, cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB)


def _of_lightness(image: Picture, function: Callable[..., Any], to: int, back: int) -> Picture:
    """Apply a function to grey, or to the first channel of another colour space."""
    if image.ndim == 2:
        return np.asarray(function(image), np.uint8)
    parts = np.array(cv2.cvtColor(image, to))
    parts[..., 0] = function(np.ascontiguousarray(parts[..., 0]))
    return np.asarray(cv2.cvtColor(parts, back), np.uint8)


@filter(
    "color_matrix",
    source="cv2.transform",
    gives=3,
    border=_POINT,
    reach=0,
    work=9,
    counted="weights of its matrix",
    matrix=Matrix((3, 3), 10, _IDENTITY),
)
def color_matrix(image: Picture, matrix: list[list[float]]) -> Picture:
    """A matrix times (red, green, blue), clipped to the range."""
    return np.asarray(cv2.transform(image, np.array(matrix, np.float32)), np.uint8)


@filter(
    "sepia",
    source="cv2.transform",
    gives=3,
    border=_POINT,
    reach=0,
    work=9,
    counted="weights of its matrix",
)
def sepia(image: Picture) -> Picture:
    """Sepia: the colour matrix that most programs use."""
    return color_matrix(image, [list(row) for row in SEPIA])


@filter(
    "pencil_sketch",
    space="can",
    source="cv2.pencilSketch",
    takes=EITHER,
    border="nothing",
    work=3 * 2 * 6 + 10,
    counted="operations of the domain transform",
    sigma_s=Float(1, 200, 60),
    sigma_r=Float(0.01, 1, 0.07),
    shade=Float(0, 0.1, 0.02),
)
def pencil_sketch(image: Picture, sigma_s: float, sigma_r: float, shade: float) -> Picture:
    """OpenCV's pencil sketch, in grey or in colour."""
    colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    results = cv2.pencilSketch(colour, sigma_s=sigma_s, sigma_r=sigma_r, shade_factor=shade)
    return np.asarray(results[0 if image.ndim == 2 else 1], np.uint8)
