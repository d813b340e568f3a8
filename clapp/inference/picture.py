"""Apply a trained model to pictures: an array, or a file."""

import math
import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clapp.errors import UserError, one_line
from clapp.filters.learned.settings import Values
from clapp.images.decode import decode
from clapp.images.formats.write import WRITERS
from clapp.images.paths import kind_of, read_file
from clapp.inference.pixels import InMemory, Pixels, open_pixels
from clapp.inference.runner import Runner, open_runner
from clapp.inference.tiles import MEMORY, bands
from clapp.system.files import atomic_path
from clapp.system.sizes import parse_size

_LOSSY = ("JPEG", "MPO", "AVIF")


def infer(
    model: str | Path,
    picture: str | Path,
    out: str | Path,
    memory: str = MEMORY,
    threads: int = 1,
    bits: int = 8,
    values: Values | None = None,
) -> None:
    """Filter `picture` with `model` and write the result, grey or colour, of the same size.

    Args:
        model: an export folder, a trial folder or an `.onnx` file.
        picture: any file Pillow reads.
        out: its suffix says the format.
        memory: such as "256MB": a picture that needs more is filtered tile by tile, with the same
            result; see `clapp.inference.tiles`.
        threads: tiles that are computed at once.
        bits: of a sample of the result, 8 or 16.
        values: of each setting of the model, by name.

    Raises:
        UserError: a path that cannot be read or written, or a suffix that is no picture format or
            one that does not keep size and grey levels; `memory` is no size; a setting has no
            value, or one that is not allowed.
    """
    limit, out = parse_size(memory, "--memory"), Path(out)
    check_suffix(out, bits)
    runner = open_runner(model, values)
    FileFilter(runner, limit, threads, bits).picture(Path(picture), out)


class FileFilter(NamedTuple):
    """A model applied to files of pictures.

    Attributes:
        runner: the model.
        memory: bytes to stay within.
        threads: tiles that are computed at once.
        bits: of a sample of the results, 8 or 16.
    """

    runner: Runner
    memory: int
    threads: int = 1
    bits: int = 8

    def picture(self, picture: Path | bytes, out: Path | BinaryIO, suffix: str = "") -> None:
        """Filter one picture.

        Args:
            picture: a file, or what one holds.
            out: the file to write, whose suffix says the format, or a stream.
            suffix: the format for a stream, such as ".png".

        Raises:
            UserError: the picture cannot be read, or the result cannot be written.
        """
        with open_pixels(picture, self.memory, ahead=self.threads > 1) as pixels:
            if not isinstance(out, Path):
                with NamedTemporaryFile() as whole:  # no half of a picture, and formats that seek
                    self._write(pixels, cast(BinaryIO, whole), format_of(suffix))
                    whole.seek(0)
                    shutil.copyfileobj(whole, out)
                return
            try:
                with atomic_path(out) as temporary, temporary.open("wb") as file:
                    self._write(pixels, file, format_of(out.suffix))
            except (UserError, MemoryError):
                raise
            except Exception as error:  # Pillow's encoders raise nearly anything
                raise UserError(f"{out}: cannot be written: {one_line(error)}") from error

    def frame(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Filter a picture that is there, uint8 (H, W, 3), to eight bits."""
        return filter_picture(self.runner, image, self.memory, self.threads)

    def _write(self, pixels: Pixels, file: BinaryIO, kind: str) -> None:
        sides, channels = pixels.shape, self.runner.channels
        shape = sides if channels == 1 else (*sides, channels)
        if kind in WRITERS:
            WRITERS[kind](file, self._bands(pixels), shape, self.bits)
        else:
            held = math.prod(shape)
            _save(np.concatenate(list(self._bands(pixels, held))), file, kind)

    def _bands(self, pixels: Pixels, held: int = 0) -> Iterator[NDArray[Any]]:
        kind = np.uint8 if self.bits == 8 else np.uint16
        return filtered(self.runner, pixels, self.memory, self.threads, held, kind)


def filter_picture(
    runner: Runner,
    image: NDArray[np.uint8],
    memory: int | None = None,
    threads: int = 1,
    kind: Any = np.uint8,
) -> NDArray[Any]:
    """A picture in, a picture out: uint8 (H, W, 3) to (H, W) or (H, W, 3) of the same size.

    Several threads may call it at once with the same runner.

    Args:
        runner: the model, see `clapp.inference.runner.open_runner`.
        image: a picture smaller than the model accepts is continued by its last row and column,
            which are cut off again.
        memory: bytes that picture, result and what is computed in between take together; a picture
            that needs more is filtered by tiles, with the same result. None: no limit.
        threads: tiles that are computed at once.
        kind: of the result. uint8 or uint16: the model's output clamped to [0, 1] and rounded;
            float32: as it is.
    """
    shape = image.shape[:2] if runner.channels == 1 else (*image.shape[:2], runner.channels)
    result = np.empty(shape, kind)
    done = 0
    for band in filtered(runner, InMemory(image), memory, threads, result.nbytes, kind):
        result[done : done + len(band)] = band
        done += len(band)
    return result


def filtered(
    runner: Runner,
    pixels: Pixels,
    memory: int | None,
    threads: int = 1,
    result: int = 0,
    kind: Any = np.uint8,
) -> Iterator[NDArray[Any]]:
    """What a model makes of a picture of any size, in bands; see `clapp.inference.tiles.bands`."""
    height, width = pixels.shape
    more = [max(0, runner.min_size - side) for side in (height, width)]
    if any(more):
        whole = pixels.part(slice(0, height), slice(0, width))
        pixels = InMemory(np.pad(whole, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge"))
    top = 0
    for band in bands(runner, pixels, memory, threads=threads, result=result, kind=kind):
        if top < height:
            yield band[: height - top, :width]
        top += len(band)


def _save(result: NDArray[np.uint8], file: BinaryIO, kind: str) -> None:
    """Write a grey or colour picture, and check that reading it back gives the same picture.

    Raises:
        ValueError: the format changes the size or loses more than JPEG and AVIF do.
    """
    image = Image.fromarray(result)
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "ICO": {"sizes": [image.size]}}
    content = BytesIO()
    image.save(content, kind, **options.get(kind, {}))
    advice = "choose another format, such as .png"
    try:
        back = decode(content.getvalue())
    except Exception as error:
        raise ValueError(f"{kind} files cannot be read back; {advice}") from error
    if back.shape[:2] != result.shape[:2]:
        raise ValueError(
            f"{kind} makes {_size(back)} pixels of {_size(result)} (width x height); {advice}"
        )
    expected = result if result.ndim == 3 else result[..., None]
    if kind not in _LOSSY and (back != expected).any():
        what = "colours" if result.ndim == 3 else "grey levels"
        raise ValueError(f"{kind} does not keep its {what}; {advice}")
    file.write(content.getvalue())


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture file as uint8 (H, W, 3).

    Raises:
        UserError: it is missing, or no picture that can be read.
    """
    kind = kind_of(path, "file")
    if kind != "a file":
        raise UserError(f"{path}: is {kind}; a picture is expected")
    try:
        return decode(read_file(path))
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise UserError(f"{path}: cannot be read as a picture: {one_line(error)}") from error


def check_suffix(path: Path, bits: int = 8) -> None:
    """See that a picture of so many bits can be written to a path.

    Raises:
        UserError: the path is a folder or the like, or its suffix names no such format.
    """
    kind = _kind_there(path)
    if kind not in (None, "a file"):
        raise UserError(f"{path}: is {kind}; a picture file to write is expected")
    known = Image.registered_extensions()
    if known.get(path.suffix.lower()) not in Image.SAVE:
        raise UserError(
            f"{path}: its suffix must name a format that can be written, "
            f"such as .png, .jpg, .tif, .webp or .bmp, not {path.suffix!r}"
        )
    if bits != 8 and format_of(path.suffix) not in WRITERS:
        raise UserError(f"{path}: 16 bits a sample are written as .png or .tif")


def format_of(suffix: str) -> str:
    """Pillow's name of the format of files with a suffix that `check_suffix` let pass."""
    return Image.registered_extensions()[suffix.lower()]


def _kind_there(path: Path) -> str | None:
    """The kind of file at `path`; None: there is nothing.

    Raises:
        UserError: a broken link, or an invalid path.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        pass
    return kind_of(path)
