"""PNG and TIFF files written strip by strip, so that no more than a strip is in memory.

Formats: https://www.w3.org/TR/png-3/; TIFF is written by tifffile.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clapp.images.formats.containers import PNG_START

Levels = NDArray[Any]
"""uint8 or uint16, (h, W) or (h, W, 3)."""
_LEVEL = 4  # of zlib: half the time of 6, for files 2 % larger
_ROWS = 64  # of a TIFF strip
_CHUNK = 2**16
_SLICE = 2**22  # bytes that are filtered at once


def write_png(file: BinaryIO, strips: Iterable[Levels], shape: tuple[int, ...], bits: int) -> None:
    """Write a PNG file.

    Args:
        file: need not be one that can be sought in.
        strips: from the top to the bottom, of the whole width.
        shape: of the whole picture, (H, W) or (H, W, 3).
        bits: of a sample, 8 or 16.
    """
    height, width = shape[:2]
    channels = 1 if len(shape) == 2 else 3
    file.write(PNG_START)
    header = struct.pack(">IIBBBBB", width, height, bits, 2 if channels == 3 else 0, 0, 0, 0)
    _chunk(file, b"IHDR", header)
    stream, pixel, waiting = zlib.compressobj(_LEVEL), channels * bits // 8, bytearray()
    above = np.zeros(width * pixel, np.uint8)
    for strip in strips:
        rows = _bytes(strip)
        each = max(1, _SLICE // rows.shape[1])
        for first in range(0, len(rows), each):
            part = rows[first : first + each]
            waiting += stream.compress(_filtered(part, above, pixel))
            above = part[-1]
            if len(waiting) >= _CHUNK:
                _chunk(file, b"IDAT", bytes(waiting))
                waiting.clear()
    _chunk(file, b"IDAT", bytes(waiting) + stream.flush())
    _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    checksum = zlib.crc32(name + data)
    file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum))


def _bytes(strip: Levels) -> NDArray[np.uint8]:
    """(h, bytes of a row), the upper byte of a sample first."""
    ordered = np.ascontiguousarray(strip, strip.dtype.newbyteorder(">"))
    return ordered.view(np.uint8).reshape(len(strip), -1)


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], pixel: int) -> bytes:
    """Rows with the filter byte of the one of none, left and above that leaves least.

    Least is the sum of magnitudes of signed bytes, as the format's specification advises.
    """
    left, up = rows.copy(), rows.copy()
    left[:, pixel:] -= rows[:, :-pixel]
    up[1:] -= rows[:-1]
    up[0] -= above
    choices = (rows, left, up)
    costs = [np.abs(one.view(np.int8).astype(np.int16)).sum(1, dtype=np.int64) for one in choices]
    best = np.argmin(costs, axis=0)  # (h,)
    found = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    found[:, 0] = best
    for number, one in enumerate(choices):
        found[best == number, 1:] = one[best == number]
    return found.tobytes()


def write_tiff(file: BinaryIO, strips: Iterable[Levels], shape: tuple[int, ...], bits: int) -> None:
    """Write a TIFF file, compressed by deflate; see `write_png`."""
    from tifffile import imwrite

    imwrite(
        file,
        _of_rows(strips, min(_ROWS, shape[0])),
        shape=shape,
        dtype=np.uint8 if bits == 8 else np.uint16,
        photometric="rgb" if len(shape) == 3 else "minisblack",
        rowsperstrip=min(_ROWS, shape[0]),
        compression="zlib",
        compressionargs={"level": _LEVEL},
        predictor=False,
        metadata=None,
        maxworkers=1,
    )


def _of_rows(strips: Iterable[Levels], rows: int) -> Iterator[Levels]:
    """The same rows in strips of `rows` each; the last one may be shorter."""
    waiting: list[Levels] = []
    for strip in strips:
        waiting.append(strip)
        joined = np.concatenate(waiting) if len(waiting) > 1 else strip
        whole = len(joined) // rows * rows
        for first in range(0, whole, rows):
            yield np.ascontiguousarray(joined[first : first + rows])
        waiting = [joined[whole:]] if whole < len(joined) else []
    if waiting:
        yield np.ascontiguousarray(np.concatenate(waiting))


WRITERS: dict[str, Callable[[BinaryIO, Iterable[Levels], tuple[int, ...], int], None]] = {
    "PNG": write_png,
    "TIFF": write_tiff,
}
"""By Pillow's names of formats."""
