"""Pictures of any size within a memory budget: tile by tile, with the same result as the whole.

Each tile is computed with as many pixels around it as its own depend on. Statistics of the whole
picture that a network needs are gathered first, with one pass over all tiles for each statistic.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from clapp.inference.parts import Apply, Parts, See, Where
from clapp.inference.pixels import Pixels
from clapp.inference.runner import Runner, as_batch, as_image
from clapp.system.progress import tell

MEMORY = "256MB"
"""The default of `clapp infer --memory`."""
_ENOUGH = 48 * 2**20  # larger tiles are not faster, unless many pixels are needed around them
_UNKNOWN = Parts(0, 0, 1, 96)
Levels = NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")


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


def bands(
    runner: Runner,
    pixels: Pixels,
    memory: int | None,
    *,
    threads: int = 1,
    result: int = 0,
    kind: Any = np.uint8,
) -> Iterator[Levels]:
    """A model's output for a picture, from the top to the bottom, in bands of its whole width.

    Args:
        runner: the model, for pictures as large as this one or larger.
        pixels: the picture.
        memory: bytes that picture, result and tiles take together; None: no limit.
        threads: tiles that are computed at once.
        result: bytes that the caller needs for the whole result.
        kind: uint8 or uint16: clamped to [0, 1] and rounded; float32: as it is.

    Yields:
        (h, W) or (h, W, 3).
    """
    height, width = pixels.shape
    parts = runner.parts or _UNKNOWN
    left = math.inf if memory is None else memory - pixels.held - result
    band = width * runner.channels * np.dtype(kind).itemsize  # bytes of a row
    # Tiles are faster than a whole picture that does not fit into caches, if one pass is enough.
    enough = left if runner.parts is None or runner.gathers else min(left, _ENOUGH)
    if height * width * _bytes(parts) + height * band <= enough:
        yield _whole(runner, pixels, kind)
        return
    if runner.parts is None:
        logger.warning(
            f"{width}x{height} pixels are computed as a whole, whatever --memory says: the model "
            "needs statistics of the whole picture, or its file does not say what a part needs"
        )
        yield _whole(runner, pixels, kind)
        return
    side = side_of(parts, left, band, threads)
    needed = threads * _tile(side, parts) + side * band
    if needed > left:
        logger.warning(
            f"{width}x{height} pixels need more than --memory: picture, result and the smallest "
            f"tiles take {(pixels.held + result + needed) / 1e6:.0f} MB"
        )
    rows = spans(height, side, parts.rows, parts.alignment, runner.min_size)
    columns = spans(width, side, parts.columns, parts.alignment, runner.min_size)
    yield from _Tiles(pixels, rows, columns, threads).bands(runner, kind)


def bytes_at_once(runner: Runner, height: int, width: int) -> int:
    """What a picture takes when a model computes it as a whole, by measurement."""
    return height * width * _bytes(runner.parts or _UNKNOWN)


def _whole(runner: Runner, pixels: Pixels, kind: Any) -> Levels:
    height, width = pixels.shape
    image = pixels.part(slice(0, height), slice(0, width))
    return _levels(as_image(runner.run(as_batch(image))), kind)


def _levels(output: NDArray[np.float32], kind: Any) -> Levels:
    if kind == np.float32:
        return output
    white = np.float32(np.iinfo(kind).max)
    levels: Levels = np.rint(np.nan_to_num(output).clip(0, 1) * white).astype(kind)
    return levels


class _Tiles:
    def __init__(self, pixels: Pixels, rows: list[Span], columns: list[Span], threads: int) -> None:
        self._pixels, self._columns, self._threads = pixels, columns, threads
        self._pairs = [(row, column) for row in rows for column in columns]
        self._passes = 0

    def bands(self, runner: Runner, kind: Any) -> Iterator[Levels]:
        """See the function of this name."""
        with runner.by_parts(self._gather) as compute:

            def filtered(pair: tuple[Span, Span]) -> Levels:
                return _levels(self._computed(compute, pair), kind)

            done = _in_order(filtered, self._pairs, self._threads)
            row: list[Levels] = []
            for number, found in enumerate(done, start=1):
                tell(f"filtering tile {number} of {len(self._pairs)}")
                row.append(found)
                if len(row) == len(self._columns):
                    band, row = np.concatenate(row, axis=1), []
                    yield band
                    del band

    def _computed(self, compute: Apply, pair: tuple[Span, Span]) -> NDArray[np.float32]:
        batch, where = self._part(pair)
        return as_image(compute(batch, where))[where]

    def _part(self, pair: tuple[Span, Span]) -> tuple[NDArray[np.float32], Where]:
        row, column = pair
        piece = self._pixels.part(slice(row.first, row.last), slice(column.first, column.last))
        return as_batch(piece), (row.inner, column.inner)

    def _gather(self, see: See) -> None:
        self._passes += 1
        seen = _in_order(lambda pair: see(*self._part(pair)), self._pairs, self._threads)
        for number, _ in enumerate(seen, start=1):
            tell(f"gathering statistics, pass {self._passes}: tile {number} of {len(self._pairs)}")


def _in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """What a function makes of each, in their order, some of them at once."""
    if threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


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


def side_of(parts: Parts, left: float, band: int = 0, threads: int = 1) -> int:
    """The side of the tiles that `left` bytes allow: a multiple of the alignment.

    Tiles are limited to a fast size, unless the pixels needed around them would dominate.

    Args:
        band: bytes of a row of the result, of which as many are kept as a tile has.
        threads: tiles that are computed at once.
    """
    halo = parts.rows + parts.columns + parts.alignment  # of both sides of an axis, on average
    enough = max(_ENOUGH, (3 * halo) ** 2 * _bytes(parts))
    room = max(min(left, threads * enough), 0)
    # threads * (side + halo)^2 * bytes + side * band = room, or less
    square, linear = threads * _bytes(parts), band / 2
    whole = (math.sqrt(linear**2 + square * (room + band * halo)) - linear) / square
    aligned: int = max(int(whole) - halo, 32, parts.alignment) // parts.alignment * parts.alignment
    return aligned


def _tile(side: int, parts: Parts) -> int:
    """Bytes that a tile takes while it is computed."""
    height = side + 2 * parts.rows + parts.alignment - 1
    return height * (side + 2 * parts.columns + parts.alignment - 1) * _bytes(parts)


def _bytes(parts: Parts) -> int:
    """Bytes for each pixel that is computed at once."""
    return 4 * parts.values
