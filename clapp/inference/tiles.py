"""Pictures of any size within a memory budget: tile by tile, with the same result as the whole.

Each tile is computed with as many pixels around it as its own depend on. Statistics of the whole
picture that a network needs are gathered first, with one pass over all tiles for each statistic.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from clapp.errors import UserError
from clapp.inference.parts import Part, Parts
from clapp.inference.runner import Runner, as_batch, as_image
from clapp.system.progress import tell

MEMORY = "256MB"
"""The default of `clapp infer --memory`."""
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_ENOUGH = 48 * 2**20  # larger tiles are not faster, unless many pixels are needed around them
_UNKNOWN = Parts(0, 0, 1, 96)


class Span(NamedTuple):
    """One tile along one axis, in pixels of the picture: its result, and the input that it
    needs."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def inner(self) -> slice:
        """The place of the result within the input."""
        return slice(self.start - self.first, self.stop - self.first)


def parse_memory(text: str) -> int:
    """Bytes of a size such as "256MB" or "1.5GiB".

    Raises:
        UserError: the text is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?B)", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size < 1:
        raise UserError(f"--memory {text}: a size such as 256MB or 1.5GiB is expected")
    return size


def apply(runner: Runner, image: NDArray[np.uint8], memory: int | None) -> NDArray[np.uint8]:
    """A model's output for uint8 (H, W, 3), clamped to [0, 1], as uint8 (H, W) or (H, W, 3).

    Args:
        memory: bytes that picture, result and tiles take together; None: no limit.
    """
    height, width = image.shape[:2]
    parts = runner.parts or _UNKNOWN
    left = math.inf if memory is None else memory - image.nbytes - height * width * runner.channels
    if height * width * _bytes(parts) <= left:
        return _levels(as_image(runner.run(as_batch(image))))
    if runner.parts is None:
        logger.warning(
            f"{width}x{height} pixels are computed as a whole, whatever --memory says: the model "
            "needs statistics of the whole picture, or its file does not say what a part needs"
        )
        return _levels(as_image(runner.run(as_batch(image))))
    side = side_of(parts, left)
    if not _fits(side, parts, left):
        logger.warning(
            f"{width}x{height} pixels need more than --memory: picture, result and the smallest "
            f"tile take {_needed(image, runner, side, parts) / 1e6:.0f} MB"
        )
    rows = spans(height, side, parts.rows, parts.alignment, runner.min_size)
    columns = spans(width, side, parts.columns, parts.alignment, runner.min_size)
    return _by_tiles(runner, image, rows, columns)


def bytes_at_once(runner: Runner, height: int, width: int) -> int:
    """What a picture takes when a model computes it as a whole, by measurement."""
    return height * width * _bytes(runner.parts or _UNKNOWN)


def _by_tiles(
    runner: Runner, image: NDArray[np.uint8], rows: list[Span], columns: list[Span]
) -> NDArray[np.uint8]:
    total, passes = len(rows) * len(columns), 0

    def part(row: Span, column: Span) -> Part:
        piece = image[row.first : row.last, column.first : column.last]
        return as_batch(piece), (row.inner, column.inner)

    def gather() -> Iterator[Part]:
        nonlocal passes
        passes += 1
        for number, (row, column) in enumerate(((r, c) for r in rows for c in columns), start=1):
            tell(f"gathering statistics, pass {passes}: tile {number} of {total}")
            yield part(row, column)

    shape = image.shape[:2] if runner.channels == 1 else (*image.shape[:2], runner.channels)
    result = np.empty(shape, np.uint8)
    with runner.by_parts(gather) as compute:
        for number, (row, column) in enumerate(((r, c) for r in rows for c in columns), start=1):
            tell(f"filtering tile {number} of {total}")
            batch, where = part(row, column)
            found = as_image(compute(batch, where))[where]
            result[row.start : row.stop, column.start : column.stop] = _levels(found)
    return result


def _levels(output: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(np.nan_to_num(output).clip(0, 1) * 255).astype(np.uint8)
    return levels


def spans(size: int, side: int, reach: int, alignment: int, least: int) -> list[Span]:
    """The tiles along an axis of `size` pixels, each of `side` of them but the last.

    Args:
        side: a multiple of `alignment`.
        reach: how many pixels are needed before and after a tile.
        alignment: the input of a tile begins at multiples of it.
        least: the least length of a tile's input; at most `size`.
    """
    found = []
    for start in range(0, size, side):
        stop = min(start + side, size)
        last = min(size, max(stop + reach, least))
        first = max(0, min(start - reach, last - least)) // alignment * alignment
        found.append(Span(start, stop, first, last))
    return found


def side_of(parts: Parts, left: float) -> int:
    """The side of the tiles that `left` bytes allow: a multiple of the alignment.

    Tiles are limited to a fast size, unless the pixels needed around them would dominate.
    """
    halo = parts.rows + parts.columns + parts.alignment  # of both sides of an axis, on average
    enough = max(_ENOUGH, (3 * halo) ** 2 * _bytes(parts))
    side = math.isqrt(int(max(min(left, enough), 0)) // _bytes(parts)) - halo
    aligned: int = max(side, 32, parts.alignment) // parts.alignment * parts.alignment
    return aligned


def _fits(side: int, parts: Parts, left: float) -> bool:
    return _tile(side, parts) <= left


def _needed(image: NDArray[np.uint8], runner: Runner, side: int, parts: Parts) -> int:
    pixels: int = image.shape[0] * image.shape[1]
    return image.nbytes + pixels * runner.channels + _tile(side, parts)


def _tile(side: int, parts: Parts) -> int:
    """Bytes that a tile takes while it is computed."""
    height = side + 2 * parts.rows + parts.alignment - 1
    return height * (side + 2 * parts.columns + parts.alignment - 1) * _bytes(parts)


def _bytes(parts: Parts) -> int:
    """Bytes for each pixel that is computed at once."""
    return 4 * parts.values
