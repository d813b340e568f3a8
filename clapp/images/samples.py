"""Samples of any bit depth converted to eight bits, transparency, and EXIF orientations."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clapp.images.formats.profile import to_srgb

Picture = NDArray[np.uint8]


def as_rgb(image: Image.Image) -> Picture:
    """An opened Pillow picture as uint8 (H, W, 3), its transparent parts white; not turned.

    Its colours are those that the ICC profile in `image.info` says, where there is one.
    """
    if image.mode.startswith(("I", "F")):
        kind = "uint" if image.mode.startswith("I") else "float"
        levels = Image.fromarray(to_bytes(fractions(np.asarray(image), kind, 16)))
        levels.info = {k: v for k, v in image.info.items() if k == "icc_profile"}
        return as_rgb(levels)
    if image.mode == "La":
        image = image.convert("LA")
    image = to_srgb(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def fractions(values: NDArray[Any], kind: str, bits: int) -> NDArray[np.float64]:
    """Samples as fractions of white, any shape.

    Unsigned integers of up to 16 bits are read as 0 to 2^bits - 1, signed ones as 0 to
    2^(bits - 1) - 1, and longer ones as 0 to 65535. Floats are read as 0 to 1 where none is larger,
    and as 0 to 255 otherwise.

    Args:
        values: the samples.
        kind: "uint", "int" or "float".
        bits: of a sample.

    Raises:
        ValueError: values that are not finite or lie outside.
    """
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("it holds values that are not finite")
    if kind == "float":
        white = 1.0 if numbers.max() <= 1 else 255.0
    elif bits > 16:
        white = 65535.0
    else:
        white = 2.0 ** (bits - (kind == "int")) - 1
    if numbers.min() < 0 or numbers.max() > white:
        raise ValueError(f"its values leave the range 0 to {white:g}")
    fraction: NDArray[np.float64] = numbers / white
    return fraction


def to_bytes(fraction: NDArray[np.float64]) -> Picture:
    """Fractions of white as uint8, rounded."""
    return np.rint(fraction * 255).astype(np.uint8)


def grey(values: Picture) -> Picture:
    """(H, W) as (H, W, 3)."""
    return np.repeat(values[..., None], 3, axis=2)


def over_white(rgb: Picture, alpha: NDArray[np.float64]) -> Picture:
    """A picture (H, W, 3) laid over white; alpha (H, W): 0 transparent, 1 opaque."""
    return np.rint(255 + (rgb - 255.0) * alpha[..., None]).astype(np.uint8)


def upright(picture: Picture, orientation: int) -> Picture:
    """Turn a picture that is stored in an EXIF orientation, 1 to 8, upright."""
    if orientation in (5, 6, 7, 8):
        picture = picture.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return np.ascontiguousarray(picture)
