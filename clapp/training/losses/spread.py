"""A mean loss over pictures: how many they are, and where the mean over other pictures may lie."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from clapp.training.losses.numbers import ZERO, short

MOST = 32
"""Parts of a spread: beyond as many pictures, each part is the mean of several."""


class Spread(NamedTuple):
    """The loss of a network over a set of pictures.

    Attributes:
        mean: over all crops.
        pictures: different pictures in the set.
        crops: parts of these pictures that were measured; those of one are not independent.
        parts: the mean of each picture, or of each of `MOST` groups of them.
    """

    mean: float
    pictures: int
    crops: int
    parts: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the mean over such pictures lies, with a confidence of 95 %; None: one picture.

        Student's t for the mean over pictures, on the scale of logarithms (delta method): losses
        of pictures are above zero and skewed. docs/trust.md has how often it holds the mean.
        """
        return positive_interval(self.mean, self.parts)

    @property
    def counted(self) -> str:
        """How many: "24 crops of 6 pictures"."""
        pictures = f"{self.pictures:,} picture{'s' * (self.pictures != 1)}"
        return pictures if self.crops == self.pictures else f"{self.crops:,} crops of {pictures}"

    @property
    def bounds(self) -> str:
        """The interval as in a table: "0.001 to 0.003"; empty where there is none."""
        return between(self.interval)

    def words(self) -> str:
        """Both: "24 crops of 6 pictures, 95 % interval 0.001 to 0.003"."""
        return self.counted + (f", 95 % interval {self.bounds}" if self.bounds else "")

    def facts(self) -> dict[str, Any]:
        """What the record of a trial holds of it, beside the loss."""
        return {"pictures": self.pictures, "crops": self.crops, "parts": list(self.parts)}

    def document(self, prefix: str = "") -> dict[str, Any]:
        """For JSON, flat: loss_low, loss_high, pictures and crops."""
        low, high = self.interval or (None, None)
        values = {"loss_low": low, "loss_high": high}
        values |= {"pictures": self.pictures, "crops": self.crops}
        return {f"{prefix}{name}": value for name, value in values.items()}


def spread(losses: Sequence[float], origins: Sequence[int]) -> Spread:
    """The spread of the losses of crops.

    Args:
        losses: one a crop.
        origins: the picture that each crop is of, as any number.
    """
    import numpy as np  # not with `clapp --help`

    values = np.asarray(losses, np.float64)
    _, places = np.unique(np.asarray(origins), return_inverse=True)
    means = np.bincount(places, values) / np.bincount(places)
    groups = np.array_split(means, min(MOST, len(means)))
    parts = tuple(float(f"{group.mean():.5g}") for group in groups)
    return Spread(float(values.mean()), len(means), len(values), parts)


def positive_interval(mean: float, parts: Sequence[float]) -> tuple[float, float] | None:
    """A 95 % interval of a positive mean of independent parts; see `Spread.interval`."""
    from clapp.system.intervals import quantile  # which loads NumPy; not with `clapp --help`

    number = len(parts)
    if number < 2:
        return None
    error = statistics.stdev(parts) / math.sqrt(number)
    factor = math.exp(min(quantile(number - 1) * error / max(mean, ZERO), 50.0))
    return mean / factor, mean * factor


def between(interval: tuple[float, float] | None) -> str:
    """Two numbers as people read them: "0.001 to 0.003"; empty for None."""
    if interval is None:
        return ""
    low, high = (short(float(f"{value:.2g}")) for value in interval)
    return f"{low} to {high}"
