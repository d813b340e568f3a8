"""Any picture that Pillow can open, as RGB uint8; resizing and cropping as used everywhere."""

import warnings
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clapp.images.formats.containers import Bare, bare, transparent_sample
from clapp.images.formats.tiff import decode_tiff, is_tiff
from clapp.images.samples import Picture as Picture
from clapp.images.samples import as_rgb, over_white, upright


def decode(content: bytes, *, managed: bool = False) -> Picture:
    """The picture in a file's bytes, as uint8 (H, W, 3).

    Its orientation is applied, transparency lies over white, the first of several frames is taken,
    and values of more than eight bits are scaled (see `clapp.images.samples`). Metadata that cannot
    be read say nothing: the pixels are read without them.

    Args:
        content: the bytes.
        managed: read colours as an ICC profile in the file means them, as sRGB. Training pictures
            are read without, as their losses always were.

    Raises:
        Exception: whatever Pillow raises for a file that is truncated or corrupt.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # Pillow warns about metadata
        if is_tiff(content):
            return decode_tiff(content, managed=managed)
        return _decode(content, managed)


def _decode(content: bytes, managed: bool) -> Picture:
    parts = bare(content)
    try:
        picture = _pixels(content, managed)
    except Exception:
        if parts is None:
            raise
        try:
            picture = _pixels(parts.content, managed)
        except Exception:
            parts = None
        if parts is None:
            raise
    return upright(picture, _orientation(content, parts))


def _pixels(content: bytes, managed: bool) -> Picture:
    """The pixels as they are stored, not turned."""
    with Image.open(BytesIO(content)) as image:
        image.load()
        if not managed:
            image.info.pop("icc_profile", None)
        transparent = transparent_sample(content)
        if transparent is not None:
            return _without(image, content, transparent)
        return as_rgb(image)


def _without(image: Image.Image, content: bytes, transparent: tuple[int, ...]) -> Picture:
    """A grey or RGB PNG in which pixels of one value are transparent, corrected where Pillow
    errs."""
    image.info.pop("transparency", None)
    rgb = as_rgb(image)  # (H, W, 3)
    if len(transparent) == 3:
        import cv2  # Pillow keeps the upper eight of sixteen bits

        bgra = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        samples: NDArray[Any] = np.asarray(bgra)[..., 2::-1]
        hidden = (samples == np.array(transparent)).all(axis=2)
    else:
        values = np.asarray(image).astype(np.int64)  # (H, W)
        depth = content[24]
        if image.mode == "L":
            values = values * (2**depth - 1) // 255
        hidden = values == transparent[0]
    return over_white(rgb, np.where(hidden, 0.0, 1.0))


def orientation_of(content: bytes) -> int:
    """The EXIF orientation of a file, 1 to 8; 1 where there is none that can be read."""
    return _orientation(content, bare(content))


def _orientation(content: bytes, parts: Bare | None) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none that can be read."""
    value = None
    with suppress(Exception):  # Pillow's parsers raise nearly anything
        if parts is not None and parts.exif is not None:
            exif = Image.Exif()
            exif.load(parts.exif)
            value = exif.get(0x0112)
    if value is None:
        with suppress(Exception), Image.open(BytesIO(content)) as image:
            value = image.getexif().get(0x0112)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


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
    # Cut a very long picture first: its ends need not be resized.
    reach = 4 * min(height, width)
    image = _central(image, min(height, reach), min(width, reach))
    return _central(shorter_side_to(image, resize), crop, crop)


def _central(image: Picture, height: int, width: int) -> Picture:
    top = (image.shape[0] - height) // 2
    left = (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
