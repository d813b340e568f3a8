"""Apply a trained model to a picture file."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clapp.errors import UserError, one_line
from clapp.files import atomic_path
from clapp.images.decode import to_rgb
from clapp.runner import Runner, as_batch, open_runner


def infer(model: str | Path, picture: str | Path, out: str | Path) -> None:
    """Filter `picture` with `model` and write the result, one 8-bit grey channel of the same size.

    Args:
        model: an export folder, a trial folder or an `.onnx` file.
        picture: any file Pillow reads.
        out: its suffix says the format.

    Raises:
        UserError: a path that cannot be read or written, or a suffix that is no picture format.
    """
    out = Path(out)
    _check_suffix(out)
    runner = open_runner(model)
    result = filter_picture(runner, read_picture(Path(picture)))
    try:
        with atomic_path(out) as temporary:
            Image.fromarray(result).save(temporary)
    except (OSError, ValueError) as error:
        raise UserError(f"{out}: cannot be written: {one_line(error)}") from error


def filter_picture(runner: Runner, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) to uint8 (H, W): the model's output clamped to [0, 1] and rounded.

    A picture smaller than the model accepts is continued by its last row and column, which are cut
    off again.
    """
    height, width = image.shape[:2]
    more = [max(0, runner.min_size - side) for side in (height, width)]
    padded = np.pad(image, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge")
    output = runner.run(as_batch(padded))[0, 0, :height, :width]
    result: NDArray[np.uint8] = np.rint(np.nan_to_num(output).clip(0, 1) * 255).astype(np.uint8)
    return result


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture file as uint8 (H, W, 3).

    Raises:
        UserError: it is missing, or no picture that can be read.
    """
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {reason}; a picture is expected")
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise UserError(f"{path}: cannot be read as a picture: {one_line(error)}") from error


def _check_suffix(path: Path) -> None:
    known = Image.registered_extensions()
    if path.is_dir():
        raise UserError(f"{path}: is a folder; a picture file to write is expected")
    if known.get(path.suffix.lower()) not in Image.SAVE:
        raise UserError(
            f"{path}: its suffix must name a format that can be written, "
            f"such as .png, .jpg, .tif, .webp or .bmp, not {path.suffix!r}"
        )
