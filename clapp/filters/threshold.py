"""Thresholds: fixed, of the whole picture, and of a neighbourhood."""

import cv2
import numpy as np

from clapp.filters.base import (
    GREY,
    Picture,
    filter,  # noqa: A004
)
from clapp.filters.parameters import Choice, Flag, Float, Int, Odd

MODES = {
    "binary": cv2.THRESH_BINARY,
    "binary_inv": cv2.THRESH_BINARY_INV,
    "trunc": cv2.THRESH_TRUNC,
    "tozero": cv2.THRESH_TOZERO,
    "tozero_inv": cv2.THRESH_TOZERO_INV,
}
METHODS = {"mean": cv2.ADAPTIVE_THRESH_MEAN_C, "gaussian": cv2.ADAPTIVE_THRESH_GAUSSIAN_C}


@filter(
    "threshold",
    source="cv2.threshold",
    takes=GREY,
    gives=1,
    border="none is needed",
    reach=0,
    work=1,
    counted="comparisons",
    level=Int(0, 254, 127),
    mode=Choice(tuple(MODES)),
)
def threshold(image: Picture, level: int, mode: str) -> Picture:
    """White above a level and black up to it; `mode` chooses other rules."""
    return np.asarray(cv2.threshold(image, level, 255, MODES[mode])[1], np.uint8)


@filter(
    "otsu",
    space="global",
    source="cv2.threshold",
    takes=GREY,
    gives=1,
    border="none is needed",
    work=2,
    counted="counts and comparisons",
    inverted=Flag(False),
)
def otsu(image: Picture, inverted: bool) -> Picture:
    """White above the level that splits the picture's histogram best (Otsu 1979)."""
    mode = MODES["binary_inv" if inverted else "binary"] | cv2.THRESH_OTSU
    return np.asarray(cv2.threshold(image, 0, 255, mode)[1], np.uint8)


@filter(
    "adaptive_threshold",
    source="cv2.adaptiveThreshold",
    takes=GREY,
    gives=1,
    border="the edge pixel again",
    reach=lambda v: v["block"] // 2,
    work=lambda v: (4 if v["method"] == "mean" else 2 * v["block"]) + 2,
    counted="weights of its kernels and comparisons",
    block=Odd(3, 99, 11),
    c=Float(-100, 100, 2),
    method=Choice(tuple(METHODS)),
    inverted=Flag(False),
)
def adaptive_threshold(
    image: Picture, block: int, c: float, method: str, inverted: bool
) -> Picture:
    """White where a pixel exceeds the mean of its neighbourhood minus c."""
    mode = MODES["binary_inv" if inverted else "binary"]
    result = cv2.adaptiveThreshold(image, 255, METHODS[method], mode, block, c)
    return np.asarray(result, np.uint8)
