"""Apply a trained model to a picture file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clapp.errors import UserError, one_line
from clapp.images.decode import decode
from clapp.images.paths import kind_of, read_file
from clapp.inference.runner import Runner, open_runner
from clapp.inference.tiles import MEMORY, apply, parse_memory
from clapp.system.files import atomic_path

_LOSSY = ("JPEG", "MPO", "AVIF")


def infer(model: str | Path, picture: str | Path, out: str | Path, memory: str = MEMORY) -> None:
    """Filter `picture` with `model` and write the result, 8-bit grey or colour, of the same size.

    Args:
        model: an export folder, a trial folder or an `.onnx` file.
        picture: any file Pillow reads.
        out: its suffix says the format.
        memory: such as "256MB": a picture that needs more is filtered tile by tile, with the same
            result; see `clapp.inference.tiles`.

    Raises:
        UserError: a path that cannot be read or written, or a suffix that is no picture format or
            one that does not keep size and grey levels; `memory` is no size.
    """
    out = Path(out)
    limit = parse_memory(memory)
    _check_suffix(out)
    runner = open_runner(model)
    result = filter_picture(runner, read_picture(Path(picture)), limit)
    try:
        with atomic_path(out) as temporary:
            _save(result, temporary)
    except Exception as error:  # Pillow's encoders raise nearly anything
        raise UserError(f"{out}: cannot be written: {one_line(error)}") from error


def _save(result: NDArray[np.uint8], path: Path) -> None:
    """Write a grey or colour picture, and check that reading it back gives the same picture.

    Raises:
        ValueError: the format changes the size or loses more than JPEG and AVIF do.
    """
    image = Image.fromarray(result)
    kind = Image.registered_extensions()[path.suffix.lower()]
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "ICO": {"sizes": [image.size]}}
    image.save(path, kind, **options.get(kind, {}))
    advice = "choose another format, such as .png"
    try:
        back = decode(read_file(path))
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


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def filter_picture(
    runner: Runner, image: NDArray[np.uint8], memory: int | None = None
) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) to (H, W) or (H, W, 3): the model's output clamped to [0, 1] and rounded.

    A picture smaller than the model accepts is padded by repeating its last row and column, and the
    result is cropped.

    Args:
        memory: the most bytes to use, by filtering in tiles; None: the picture is filtered as a
            whole.
    """
    height, width = image.shape[:2]
    more = [max(0, runner.min_size - side) for side in (height, width)]
    if any(more):
        image = np.pad(image, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge")
    return apply(runner, image, memory)[:height, :width]


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


def _check_suffix(path: Path) -> None:
    known = Image.registered_extensions()
    kind = _kind_there(path)
    if kind not in (None, "a file"):
        raise UserError(f"{path}: is {kind}; a picture file to write is expected")
    if known.get(path.suffix.lower()) not in Image.SAVE:
        raise UserError(
            f"{path}: its suffix must name a format that can be written, "
            f"such as .png, .jpg, .tif, .webp or .bmp, not {path.suffix!r}"
        )


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
