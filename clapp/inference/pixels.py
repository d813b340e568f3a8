"""The pixels of a picture: in memory, or in a temporary file where they would not fit."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

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
    """A picture in a temporary file, which vanishes with it, also when the process is killed.

    Its rows are written by a thread; whoever wants some of them waits until they are there.
    """

    held = 0

    def __init__(self, strips: Strips, source: BinaryIO, name: str) -> None:
        """Begin to read.

        Args:
            strips: the picture.
            source: the file that they are read from; closed when all are.
            name: of the picture, in errors.
        """
        turned = strips.orientation
        self._orientation, self._width = turned, strips.width
        size = (strips.height, strips.width)
        self.shape = size[::-1] if turned >= 5 else size
        self._name, self._rows, self._height = name, 0, strips.height
        self._error: Exception | None = None
        self._closed = False
        self._more = threading.Condition()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._reader = threading.Thread(target=self._read, args=(strips, source), daemon=True)
        self._reader.start()

    def wait(self, rows: int | None = None) -> None:
        """Wait until the first rows of the file are there; None: all of them.

        Raises:
            UserError: the file is no picture that can be read, or the disk is full.
        """
        wanted = self._height if rows is None else rows
        with self._more:
            self._more.wait_for(lambda: self._error is not None or self._rows >= wanted)
        if self._error is not None:
            raise self._error

    def _read(self, strips: Strips, source: BinaryIO) -> None:
        error: Exception | None = None
        with source:
            try:
                self._fill(strips)
            except UserError as refused:
                error = refused
            except Exception as broken:  # Pillow's decoders raise nearly anything
                error = _unreadable(self._name, broken)
        with self._more:
            self._error = error
            self._more.notify_all()

    def _fill(self, strips: Strips) -> None:
        needed = self._height * self._width * 3
        for strip in strips.rows:
            if self._closed:
                return
            tell(f"reading the picture: row {self._rows:,} of {self._height:,}")
            try:
                self._file.write(strip.tobytes())
                self._file.flush()
            except OSError as error:
                raise UserError(
                    f"{tempfile.gettempdir()}: {needed / 1e6:,.0f} MB are needed there for the "
                    f"rows of a large picture: {error.strerror}; TMPDIR names another folder"
                ) from error
            with self._more:
                self._rows += len(strip)
                self._more.notify_all()
        if self._rows != self._height:
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
        self.wait(bottom)
        found = np.empty((bottom - top, right - left, 3), np.uint8)
        number, count = self._file.fileno(), (right - left) * 3
        for row, place in enumerate(range(top, bottom)):
            content = os.pread(number, count, (place * self._width + left) * 3)
            found[row] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return upright(found, self._orientation)

    def close(self) -> None:
        """Let the file go."""
        self._closed = True
        self._reader.join()
        self._file.close()


def _mirrored(part: slice, side: int, flipped: bool) -> tuple[int, int]:
    return (side - part.stop, side - part.start) if flipped else (part.start, part.stop)


@contextmanager
def open_pixels(picture: Path | bytes, budget: int, *, ahead: bool = False) -> Iterator[Pixels]:
    """The pixels of a picture file, or of its bytes.

    Args:
        picture: anything `clapp.images.decode` reads. Its colours are read as its profile says.
        budget: a PNG or TIFF file whose pixels take more than an eighth of these bytes is read
            strip by strip into a temporary file, in the folder that `TMPDIR` names.
        ahead: such a file is read while its first parts are used already. What is wrong with its
            end is then raised by the use of a part.

    Raises:
        UserError: it is missing, or no picture that can be read.
    """
    name = "standard input" if isinstance(picture, bytes) else str(picture)
    if isinstance(picture, Path) and (kind := kind_of(picture, "file")) != "a file":
        raise UserError(f"{picture}: is {kind}; a picture is expected")
    pixels: Pixels | None = _large(picture, budget, name)
    if isinstance(pixels, OnDisk):
        with closing(pixels):
            if not ahead:
                pixels.wait()
            yield pixels
        return
    try:
        content = picture if isinstance(picture, bytes) else read_file(picture)
        pixels = InMemory(decode(content, managed=True))
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise _unreadable(name, error) from error
    yield pixels


def _unreadable(name: str, error: Exception) -> UserError:
    return UserError(f"{name}: cannot be read as a picture: {one_line(error)}")


def _large(picture: Path | bytes, budget: int, name: str) -> OnDisk | None:
    """A large picture strip by strip; None: it is small, or can only be read as a whole."""
    try:
        file = BytesIO(picture) if isinstance(picture, bytes) else picture.open("rb")
    except OSError:  # `read_file` says why
        return None
    with ExitStack() as stack:
        stack.enter_context(file)
        try:
            strips = open_strips(file)
        except Exception:  # a broken header; `decode` says of what kind, or reads it all the same
            return None
        if strips is None or strips.height * strips.width * 3 * _SHARE <= budget:
            return None
        stack.pop_all()  # the file is read on
        return OnDisk(strips, file, name)
