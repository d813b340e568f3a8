"""A function of one value as straight pieces, which convolutions and ReLU can say."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PIECES = 8
_GRID, _BINS = 4096, 64


class Pieces(NamedTuple):
    """Straight lines between knots, and constant beyond the first and the last.

    Attributes:
        knots: (K + 1,), rising.
        values: (K + 1,) at the knots.
    """

    knots: Array
    values: Array

    def __call__(self, values: Array) -> Array:
        """The value of the pieces."""
        return np.interp(values, self.knots, self.values)


def fit_pieces(function: Callable[[Array], Array], samples: Array, count: int = PIECES) -> Pieces:
    """The pieces that are nearest to a function on samples of its argument, in the mean square.

    Knots lie the denser the more the function bends and the more samples there are: by the fifth
    root of both (de Boor, "A Practical Guide to Splines", XII); values follow by least squares.

    Args:
        samples: (N,), not all equal; their extremes are the first and the last knot.
    """
    low, high = float(samples.min()), float(samples.max())
    grid = np.linspace(low, high, _GRID)
    bend = np.abs(np.gradient(np.gradient(function(grid), grid), grid))
    counts, _ = np.histogram(samples, _BINS, (low, high))
    share = np.interp(grid, np.linspace(low, high, _BINS), counts / counts.mean() + 0.05)
    density = (bend**2 * share) ** 0.2
    density += density.mean() * 0.05
    whole = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    knots = np.interp(np.linspace(0, whole[-1], count + 1), whole, grid)
    hats = np.stack([np.interp(samples, knots, row) for row in np.eye(count + 1)], 1)
    # A knot without samples beside it keeps the function's own value.
    weak = np.eye(count + 1) * np.sqrt(1e-6 * len(samples))
    left = np.concatenate([hats, weak])
    right = np.concatenate([function(samples), np.diag(weak) * function(knots)])
    values = np.linalg.lstsq(left, right, rcond=None)[0]
    return Pieces(knots, values)
