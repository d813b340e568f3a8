"""The pixels of a picture: in memory, or in a temporary file where they would not fit."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clapp.errors import UserError, one_line
from clapp.images.decode import decode
from clapp.images.formats.strips import Strips, open_strips
from clapp.images.paths import kind_of, read_file
from clapp.images.samples import upright
from clapp.system.progress import tell

Picture = NDArray[np.uint8]
_SHARE = 8  # pictures of more than this part of the budget are not read as a whole


class Pixels(Protocol):
    """A picture of any size, upright.

    Attributes:
        shape: height and width.
        held: bytes of memory that it takes.
    """

    shape: tuple[int, int]
    held: int

    def part(self, rows: slice, columns: slice) -> Picture:
        """A part of it, uint8 (h, w, 3); may be called from any thread."""
        ...


class InMemory:
    """A picture that is there: uint8 (H, W, 3)."""

    def __init__(self, image: Picture) -> None:
        self._image = image
        self.shape = (image.shape[0], image.shape[1])
        self.held = image.nbytes

    def part(self, rows: slice, columns: slice) -> Picture:
        """See `Pixels`."""
        return self._image[rows, columns]


class OnDisk:
    """A picture in a temporary file, which vanishes with it, also when the process is killed."""

    held = 0

    def __init__(self, strips: Strips) -> None:
        turned = strips.orientation
        self._orientation, self._width = turned, strips.width
        size = (strips.height, strips.width)
        self.shape = size[::-1] if turned >= 5 else size
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        try:
            self._fill(strips)
        except BaseException:
            self.close()
            raise

    def _fill(self, strips: Strips) -> None:
        done, needed = 0, strips.height * strips.width * 3
        for strip in strips.rows:
            tell(f"reading the picture: row {done:,} of {strips.height:,}")
            try:
                self._file.write(strip.tobytes())
                self._file.flush()
            except OSError as error:
                raise UserError(
                    f"{tempfile.gettempdir()}: {needed / 1e6:,.0f} MB are needed there for the "
                    f"rows of a large picture: {error.strerror}; TMPDIR names another folder"
                ) from error
            done += len(strip)
        if done != strips.height:
            raise ValueError("the file is truncated")

    def part(self, rows: slice, columns: slice) -> Picture:
        """See `Pixels`."""
        (top, bottom), (left, right) = (
            _mirrored(part, side, self._orientation in flips)
            for part, side, flips in zip(
                (rows, columns), self.shape, ((3, 4, 7, 8), (2, 3, 6, 7)), strict=True
            )
        )
        if self._orientation >= 5:
            top, bottom, left, right = left, right, top, bottom
        found = np.empty((bottom - top, right - left, 3), np.uint8)
        number, count = self._file.fileno(), (right - left) * 3
        for row, place in enumerate(range(top, bottom)):
            content = os.pread(number, count, (place * self._width + left) * 3)
            found[row] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return upright(found, self._orientation)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def _mirrored(part: slice, side: int, flipped: bool) -> tuple[int, int]:
    return (side - part.stop, side - part.start) if flipped else (part.start, part.stop)


@contextmanager
def open_pixels(picture: Path | bytes, budget: int) -> Iterator[Pixels]:
    """The pixels of a picture file, or of its bytes.

    Args:
        picture: anything `clapp.images.decode` reads. Its colours are read as its profile says.
        budget: a PNG or TIFF file whose pixels take more than an eighth of these bytes is read
            strip by strip into a temporary file, in the folder that `TMPDIR` names.

    Raises:
        UserError: it is missing, or no picture that can be read.
    """
    name = "standard input" if isinstance(picture, bytes) else str(picture)
    if isinstance(picture, Path) and (kind := kind_of(picture, "file")) != "a file":
        raise UserError(f"{picture}: is {kind}; a picture is expected")
    try:
        pixels = _large(picture, budget) or InMemory(
            decode(picture if isinstance(picture, bytes) else read_file(picture), managed=True)
        )
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise UserError(f"{name}: cannot be read as a picture: {one_line(error)}") from error
    try:
        yield pixels
    finally:
        if isinstance(pixels, OnDisk):
            pixels.close()


def _large(picture: Path | bytes, budget: int) -> OnDisk | None:
    """A large picture strip by strip; None: it is small, or can only be read as a whole."""
    try:
        file = BytesIO(picture) if isinstance(picture, bytes) else picture.open("rb")
    except OSError:  # `read_file` says why
        return None
    with file:
        try:
            strips = open_strips(file)
        except Exception:  # a broken header; `decode` says of what kind, or reads it all the same
            return None
        if strips is None or strips.height * strips.width * 3 * _SHARE <= budget:
            return None
        return OnDisk(strips)
