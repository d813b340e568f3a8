"""One setting: a parameter of a filter that a network takes as an input, and its range."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.errors import UserError

LEVELS = 255
PICTURE = 3
"""Channels of the picture, before those of the settings."""


class Setting(NamedTuple):
    """One parameter that is an input.

    Attributes:
        low, high: its range.
        step: 1: whole numbers; 2: every other one from `low` on; 0: any number.
    """

    name: str
    low: float
    high: float
    step: int = 0

    @property
    def allowed(self) -> str:
        """Its values in words."""
        kind = {0: "numbers", 1: "whole numbers", 2: "every other whole number,"}[self.step]
        return f"{kind} from {self.low:g} to {self.high:g}"

    def fraction(self, value: float) -> float:
        """Where in its range a value lies: 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def value(self, fraction: float) -> float:
        """The value at a fraction of the range; the nearest one that is allowed."""
        number = self.low + fraction * (self.high - self.low)
        if not self.step:
            return number
        return int(self.low + round((number - self.low) / self.step) * self.step)

    def at(self, level: int) -> float:
        """The value of a level of a picture."""
        return self.value(level / LEVELS)

    def levels(self) -> NDArray[np.uint8]:
        """Every level that a training draws from; of whole numbers one each."""
        if not self.step:
            return np.arange(LEVELS + 1, dtype=np.uint8)
        count = round((self.high - self.low) / self.step)
        return np.unique(np.rint(np.linspace(0, LEVELS, count + 1)).astype(np.uint8))

    def said(self, level: int) -> str:
        """Such as "sigma=1.5"."""
        return f"{self.name}={self.at(level):.4g}"

    def taken(self, value: Any, source: str) -> float:
        """A value that is allowed.

        Raises:
            UserError: it is not; `source` begins the message.
        """
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and self.low <= value <= self.high and self._on_step(float(value))):
            raise UserError(f"{source}: {value!r} is not allowed; allowed: {self.allowed}")
        return float(value)

    def _on_step(self, value: float) -> bool:
        return not self.step or (value - self.low) % self.step == 0
