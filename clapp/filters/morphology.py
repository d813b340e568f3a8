"""Morphology: minima and maxima over a neighbourhood, and their combinations."""

from collections.abc import Callable

import cv2
import numpy as np

from clapp.filters.base import (
    EITHER,
    Picture,
    Values,
    filter,  # noqa: A004
)
from clapp.filters.parameters import Choice, Int, Odd

SHAPES = {"rect": cv2.MORPH_RECT, "ellipse": cv2.MORPH_ELLIPSE, "cross": cv2.MORPH_CROSS}
OPERATIONS = {
    "erode": (cv2.MORPH_ERODE, 1, "The darkest pixel of a neighbourhood."),
    "dilate": (cv2.MORPH_DILATE, 1, "The brightest pixel of a neighbourhood."),
    "open": (cv2.MORPH_OPEN, 2, "Erosion, then dilation: bright specks go."),
    "close": (cv2.MORPH_CLOSE, 2, "Dilation, then erosion: dark specks go."),
    "gradient": (cv2.MORPH_GRADIENT, 2, "Dilation minus erosion: edges."),
    "top_hat": (cv2.MORPH_TOPHAT, 2, "The picture minus its opening: bright specks."),
    "black_hat": (cv2.MORPH_BLACKHAT, 2, "The closing minus the picture: dark specks."),
}
"""Name -> OpenCV's operation, the number of extremes taken one after another, and a description."""


def _reach(passes: int) -> Callable[[Values], int]:
    return lambda v: passes * v["iterations"] * (v["ksize"] // 2)


def _work(passes: int) -> Callable[[Values], float]:
    def work(values: Values) -> float:
        side, shape = values["ksize"], values["shape"]
        taps = {"rect": 2 * side, "cross": 2 * side, "ellipse": round(0.785 * side**2)}[shape]
        return float(passes * values["iterations"] * taps)

    return work


def _function(operation: int, text: str) -> Callable[..., Picture]:
    def call(image: Picture, ksize: int, shape: str, iterations: int) -> Picture:
        element = cv2.getStructuringElement(SHAPES[shape], (ksize, ksize))
        result = cv2.morphologyEx(image, operation, element, iterations=iterations)
        return np.asarray(result, np.uint8)

    call.__doc__ = text
    return call


for _name, (_operation, _passes, _text) in OPERATIONS.items():
    # A gradient takes both extremes of the same picture, so its reach does not double.
    _far = 1 if _name == "gradient" else _passes
    filter(
        _name,
        source="cv2.morphologyEx",
        takes=EITHER,
        border="nothing: pixels outside do not count",
        reach=_reach(_far),
        work=_work(_passes),
        counted="comparisons",
        ksize=Odd(3, 31, 3),
        shape=Choice(tuple(SHAPES)),
        iterations=Int(1, 10, 1),
    )(_function(_operation, _text))
