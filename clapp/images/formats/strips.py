"""Large PNG and TIFF files read strip by strip, each pixel as `clapp.images.decode` reads it.

PNG rows are unfiltered by Pillow: a strip becomes a small PNG file, whose first row is the last one
of the strip before. Formats: https://www.w3.org/TR/png-3/ and TIFF revision 6.0.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import TiffFile, TiffPage

from clapp.images.decode import decode, orientation_of
from clapp.images.formats.containers import PNG_START
from clapp.images.formats.tiff import colours, icc_profile, is_tiff, reads_itself
from clapp.images.samples import Picture

_BYTES = 4 * 2**20  # of a strip's samples
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's colour types by samples of eight bits
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_LARGEST_CHUNK = 2**24  # of what is no pixels
_SEEN = (b"iCCP", b"PLTE", b"tRNS")  # what decides on colours
_SAYING = (*_SEEN, b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # and on the orientation
Rows = NDArray[np.uint8]


class Strips(NamedTuple):
    """A picture from the top to the bottom, as it is stored.

    Attributes:
        orientation: EXIF's, 1 to 8: how it is to be turned.
        rows: uint8 (h, width, 3) each, in sRGB, transparent parts white. It raises ValueError, or
            whatever Pillow and tifffile do, for a file that is truncated or corrupt.
    """

    height: int
    width: int
    orientation: int
    rows: Iterator[Picture]


def open_strips(file: BinaryIO) -> Strips | None:
    """The strips of a file that can be sought in; None: only the whole picture can be read.

    That is so of all formats but PNG and TIFF, of interlaced PNG files, and of TIFF files that are
    compressed otherwise than by deflate or PackBits, hold floats, or keep channels apart.
    """
    start = file.read(len(PNG_START))
    file.seek(0)
    if start == PNG_START:
        return _png(file)
    return _tiff(file) if is_tiff(start) else None


class _Chunk(NamedTuple):
    name: bytes
    at: int
    length: int


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """The chunks of a PNG file, whose data begin at `at`."""
    at = len(PNG_START)
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("the file is truncated")
        length, name = struct.unpack(">I4s", head)
        yield _Chunk(name, at + 8, length)
        if name == b"IEND":
            return
        at += 12 + length


def _data(file: BinaryIO, chunk: _Chunk) -> bytes:
    file.seek(chunk.at)
    return file.read(chunk.length)


def _written(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _header(width: int, height: int, depth: int, colour: int) -> bytes:
    return _written(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def _file(header: bytes, before: bytes, rows: bytes) -> bytes:
    """A PNG file of rows with their filter bytes, not compressed."""
    pixels = _written(b"IDAT", zlib.compress(rows, 0))
    return PNG_START + header + before + pixels + _written(b"IEND", b"")


def _png(file: BinaryIO) -> Strips | None:
    chunks = list(_chunks(file))
    if chunks[0].name != b"IHDR" or chunks[0].length != 13:
        raise ValueError("its header is broken")
    width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", _data(file, chunks[0]))
    if interlaced or colour not in _SAMPLES or not width or not height:
        return None
    others = {
        chunk.name: _written(chunk.name, _data(file, chunk))
        for chunk in chunks
        if chunk.name in _SAYING and chunk.length <= _LARGEST_CHUNK
    }
    seen = b"".join(others.get(name, b"") for name in _SEEN)
    small = _file(_header(1, 1, 8, 0), b"".join(others.values()), b"\0\0")
    size = -(-width * depth * _SAMPLES[colour] // 8)  # bytes of a row

    def shown(rows: Rows) -> Picture:
        if (colour, depth) == (2, 8) and not seen:
            return rows.reshape(len(rows), width, 3)
        plain = np.pad(rows, ((0, 0), (1, 0))).tobytes()  # filter 0
        return decode(_file(_header(width, len(rows), depth, colour), seen, plain), managed=True)

    inflated = _inflated(file, [chunk for chunk in chunks if chunk.name == b"IDAT"])
    each = max(1, _BYTES // (size + 1))
    unfilter = _Unfilter(size, -(-depth * _SAMPLES[colour] // 8))
    filtered = _in_strips(inflated, height, size + 1, each)
    return Strips(
        height, width, orientation_of(small), (shown(unfilter(strip)) for strip in filtered)
    )


def _inflated(file: BinaryIO, chunks: list[_Chunk]) -> Callable[[int], bytes]:
    """A function that returns the next bytes of the pixels' stream, as many as it is asked for."""
    stream, waiting = zlib.decompressobj(), iter(chunks)
    left: list[_Chunk] = []

    def compressed() -> bytes:
        chunk = left.pop() if left else next(waiting, None)
        if chunk is None:
            return b""
        part = chunk._replace(length=min(chunk.length, 2**20))
        if part.length < chunk.length:
            left.append(_Chunk(chunk.name, chunk.at + part.length, chunk.length - part.length))
        return _data(file, part) or compressed()

    def read(count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            more = stream.unconsumed_tail or compressed()
            if not more:
                raise ValueError("the file is truncated")
            found += stream.decompress(more, count - len(found))
        return bytes(found)

    return read


def _in_strips(read: Callable[[int], bytes], height: int, size: int, each: int) -> Iterator[Rows]:
    for first in range(0, height, each):
        count = min(each, height - first)
        yield np.frombuffer(read(count * size), np.uint8).reshape(count, size)


class _Unfilter:
    """Undoes PNG's filters, which refer to pixels on the left and in the row above.

    Args:
        size: bytes of a row.
        pixel: bytes of a pixel, at least 1.
    """

    def __init__(self, size: int, pixel: int) -> None:
        # A filter refers to the byte a whole pixel before, so the halves of a pixel of six or eight
        # bytes do not meet: they are rows of their own.
        self._halves = 2 if pixel > 4 else 1
        self._samples = pixel // self._halves
        self._last: Rows = np.zeros((1, size + 1), np.uint8)

    def __call__(self, filtered: Rows) -> Rows:
        """Rows with their filter bytes, (n, 1 + size), to what they stand for, (n, size)."""
        rows = np.concatenate([self._last, filtered])  # (n + 1, 1 + size); the first has filter 0
        pixels = rows[:, 1:].reshape(len(rows), -1, self._halves, self._samples)
        header = _header(pixels.shape[1], len(rows), 8, _COLOURS[self._samples])
        found = np.empty_like(pixels)
        for half in range(self._halves):
            part = pixels[:, :, half].reshape(len(rows), -1)
            content = _file(header, b"", np.concatenate([rows[:, :1], part], 1).tobytes())
            with Image.open(BytesIO(content)) as image:
                found[:, :, half] = np.asarray(image).reshape(len(rows), -1, self._samples)
        plain: Rows = found.reshape(len(rows), -1)
        self._last[0, 1:] = plain[-1]
        return plain[1:]


def _tiff(file: BinaryIO) -> Strips | None:
    try:
        page = TiffFile(file).pages[0]
    except Exception:  # `decode` may still read it by Pillow
        return None
    if not isinstance(page, TiffPage) or not reads_itself(page) or page.imagedepth != 1:
        return None
    apart = page.samplesperpixel > 1 and int(page.planarconfig or 1) == 2
    if apart or int(page.sampleformat or 1) == 3:
        return None
    if 0 in page.databytecounts or not page.dataoffsets:
        return None
    tag, profile = page.tags.get("Orientation"), icc_profile(page)
    turned = 1 if tag is None or not isinstance(tag.value, int) else tag.value
    rows = (colours(page, samples, profile) for samples in _samples(page, file))
    return Strips(page.imagelength, page.imagewidth, turned if 1 <= turned <= 8 else 1, rows)


def _samples(page: TiffPage, file: BinaryIO) -> Iterator[NDArray[Any]]:
    """The samples as they are stored, (h, width, samples a pixel)."""
    width, samples = page.imagewidth, page.samplesperpixel
    if int(page.compression) == 1 and page.is_contiguous and page.bitspersample >= 8:
        kind = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
        size = width * samples * kind.itemsize
        file.seek(page.dataoffsets[0])
        each = max(1, _BYTES // size)
        for first in range(0, page.imagelength, each):
            count = min(each, page.imagelength - first)
            content = file.read(count * size)
            if len(content) < count * size:
                raise ValueError("the file is truncated")
            yield np.frombuffer(content, kind).reshape(count, width, samples)
        return
    yield from _segments(page)


def _segments(page: TiffPage) -> Iterator[NDArray[Any]]:
    """Rows of tiles, or strips, put together from left to right."""
    band: NDArray[Any] | None = None
    top = 0
    for values, index, _ in page.segments(maxworkers=1, sort=False, buffersize=_BYTES):
        if values is None:
            raise ValueError("the file is truncated")
        _, _, row, column, _ = index
        # The last tiles reach beyond the picture.
        part = values[0, : page.imagelength - row, : page.imagewidth - column]
        if band is not None and row != top:
            yield band
            band = None
        if band is None:
            top = row
            band = np.zeros((len(part), page.imagewidth, page.samplesperpixel), part.dtype)
        band[:, column : column + part.shape[1]] = part
    if band is not None:
        yield band
