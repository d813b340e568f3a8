"""Losses as numbers that people read: four digits, decibels, and what zero counts as."""

import math

ZERO = 1e-9
"""Replaces zero and smaller losses where a logarithm or a quotient needs a positive number.

An L2 of 1e-9 is an error of a hundredth of an 8-bit step at every pixel.
"""


def positive(value: float) -> float:
    """`value`, at least `ZERO`: for logarithms and quotients."""
    return max(value, ZERO)


def short(value: float) -> str:
    """Four significant digits, without an exponent from 0.000001 to ten millions: 0.004731."""
    text = f"{value:.4g}"
    if "e" in text and 1e-6 <= abs(value) < 1e7:
        text = f"{value:,.0f}" if abs(value) >= 1 else f"{value:.9f}".rstrip("0")
    return text


def decibels(loss: float) -> str:
    """The peak signal-to-noise ratio of a mean squared error of pictures in [0, 1]: 33.3 dB."""
    return f"{-10 * math.log10(positive(loss)):.1f} dB"


def loss_text(loss: float) -> str:
    """A loss as text for people: "0.004731 (23.3 dB)"."""
    return f"{short(loss)} ({decibels(loss)})"
