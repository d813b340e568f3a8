"""Filters with fixed random kernels: test cases that no textbook describes."""

import random
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from clapp.filters.base import (
    EPSILON,
    Picture,
    Plane,
    filter,  # noqa: A004
)

Weights = NDArray[np.float32]
_ZERO = "zeros"


def _normalised(weights: list[float], generator: random.Random) -> Weights:
    """27 weights, shuffled into (channel, row, column) and divided by the sum of their
    magnitudes."""
    generator.shuffle(weights)
    kernel = np.array(weights).reshape(3, 3, 3)
    normalised: Weights = (kernel / np.abs(kernel).sum()).astype(np.float32)
    return normalised


def _positive_kernel(seed: int) -> Weights:
    generator = random.Random(seed)  # noqa: S311 - the seed is the filter's definition
    return _normalised([generator.random() for _ in range(27)], generator)


def _antisymmetric_kernel(seed: int) -> Weights:
    generator = random.Random(seed)  # noqa: S311
    half = [generator.random() for _ in range(13)]
    return _normalised([*half, 0.0, *(-weight for weight in half)], generator)


KERNEL_41 = _positive_kernel(41)
KERNEL_51 = _antisymmetric_kernel(51)
KERNEL_15 = _antisymmetric_kernel(15)


def _interleaved(kernel: Weights) -> Weights:
    """Reorder (3, KH, KW) to (KH, 3 * KW), the memory order of RGB pictures."""
    _, height, width = kernel.shape
    return kernel.transpose(1, 2, 0).reshape(height, 3 * width)


_ROWS_41, _ROWS_51, _ROWS_15 = map(_interleaved, (KERNEL_41, KERNEL_51, KERNEL_15))


@filter(
    "random_41",
    source="cv2.filter2D",
    gives=1,
    border=_ZERO,
    reach=1,
    work=27,
    counted="weights of its kernels: 27 of its kernel",
)
def random_41(image: Picture) -> Picture:
    """One fixed random 3x3 kernel for each channel, all weights positive with sum one."""
    response = _convolve(image, _ROWS_41)
    return (np.clip(response, 0, 1) * np.float32(255)).astype(np.uint8)


@filter(
    "random2_51_15",
    source="cv2.filter2D",
    gives=1,
    border=_ZERO,
    work=2 * 27,
    counted="weights of its kernels: 27 of each kernel",
)
def random2_51_15(image: Picture) -> Picture:
    """Magnitude of the responses of two fixed random antisymmetric kernels, over its maximum."""
    first, second = _convolve(image, _ROWS_51), _convolve(image, _ROWS_15)
    magnitude = np.sqrt(first * first + second * second)
    magnitude /= magnitude.max() + np.float32(EPSILON)
    return (magnitude * np.float32(255)).astype(np.uint8)


def _convolve(image: Picture, kernel: Weights) -> Plane:
    """Correlate RGB in [0, 1], zeros outside, with a 3x3x3 kernel laid out by `_interleaved`.

    One pass over the interleaved rows keeps the channels in a single running sum. Summing three
    rounded responses instead moves values across whole grey levels where the picture is white.
    """
    rows = image.astype(np.float32).reshape(len(image), -1)  # (H, 3 W)
    rows /= np.float32(255)
    response = cv2.filter2D(rows, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    # The columns where the kernel is centred on the green sample of a pixel.
    return cast(Plane, response[:, 1::3])
