"""Any picture Pillow can open, as RGB uint8; and the one way pictures are resized."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Picture = NDArray[np.uint8]


def to_rgb(image: Image.Image) -> Picture:
    """An opened Pillow picture as uint8 (H, W, 3).

    Its EXIF orientation is applied, transparency lies over white, the first of several frames is
    taken, and grey levels of more than eight bits are scaled (see `_deep`).

    Raises:
        Exception: whatever Pillow raises for a file that is truncated or corrupt.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return np.repeat(_deep(image)[..., None], 3, axis=2)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"))


def _deep(image: Image.Image) -> NDArray[np.uint8]:
    """Grey levels deeper than eight bits as uint8 (H, W).

    Integers are read as 16-bit, 0 to 65535. Floats are read as 0 to 1 where none is larger, and
    as 0 to 255 otherwise.
    """
    values: NDArray[Any] = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite")
    deepest = 65535.0 if image.mode.startswith("I") else 255.0
    white = 1.0 if image.mode == "F" and values.max() <= 1 else deepest
    if values.min() < 0 or values.max() > white:
        raise ValueError(f"its values leave the range 0 to {white:g}")
    return np.rint(values * (255 / white)).astype(np.uint8)


def shorter_side_to(image: Picture, side: int) -> Picture:
    """Resize so that the shorter side is `side` pixels (Pillow's antialiased bilinear)."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    if size == (width, height):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def centre_crop(image: Picture, resize: int, crop: int) -> Picture:
    """The central `crop` x `crop` pixels after the shorter side became `resize`."""
    height, width = image.shape[:2]
    # What lies far outside the centre of a very long picture need not be resized.
    reach = 4 * min(height, width)
    image = _central(image, min(height, reach), min(width, reach))
    return _central(shorter_side_to(image, resize), crop, crop)


def _central(image: Picture, height: int, width: int) -> Picture:
    top = (image.shape[0] - height) // 2
    left = (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
