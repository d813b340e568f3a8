"""The pixels that a model needs around a part of a picture for the same result as in the whole."""

import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.config import ModelConfig
from clapp.models.families import family_of

Where = tuple[slice, slice]
"""Rows and columns."""
Apply = Callable[[NDArray[np.float32], Where], NDArray[np.float32]]
"""From float32 (1, 3, h, w) in [0, 1] around a part of a picture, and where in it that part lies,
to (1, channels, h, w); from any thread."""
See = Callable[[NDArray[np.float32], Where], None]
Gather = Callable[[See], None]
"""Shows every part of a picture once, in any order, from any threads."""

PARTS, GATHERED_PARTS = "parts", "parts_with_statistics"
"""Properties of an ONNX file: `Parts`, of a network without and with statistics of the whole."""
_BASE, _LOCAL, _GATHERING = 32, 8, 22
"""Float32 values in memory per pixel: a constant, and more per channel; statistics use float64.

Measured with 1 to 64 channels: peak memory of `clapp.inference.tiles` beside picture and result.
"""


class Parts(NamedTuple):
    """How parts of a picture can be computed.

    Attributes:
        rows, columns: how many pixels up and down, and left and right, an output pixel depends on.
        alignment: the pixels computed at once must begin at multiples of this.
        values: measured number of float32 values in memory per pixel.
    """

    rows: int
    columns: int
    alignment: int
    values: int

    def write(self) -> str:
        """The text of a file's property."""
        return json.dumps(self)

    @classmethod
    def read(cls, text: str | None) -> "Parts | None":
        """Read the text of `write`; None if it is not valid."""
        try:
            values = json.loads(text or "null")
            known = len(values) == len(cls._fields) and all(type(v) is int for v in values)
        except (ValueError, TypeError):
            return None
        return cls(*values) if known and min(values) >= 0 and min(values[2:]) > 0 else None


def parts_of(config: ModelConfig, *, gathers: bool) -> Parts | None:
    """How parts can be computed with a network; None: it needs statistics of the whole picture.

    Args:
        gathers: whether statistics of the whole picture can be gathered.
    """
    family = family_of(config)
    if not family.is_local(config) and not (gathers and family.gathered):
        return None
    rows, columns = family.receptive_field(config)
    each = _LOCAL if family.is_local(config) else _GATHERING
    return Parts(rows, columns, family.alignment(config), _BASE + each * config.widest)
