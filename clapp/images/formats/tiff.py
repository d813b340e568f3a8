"""TIFF files: samples of any depth, read by tifffile where Pillow silently misreads them.

Pillow takes 12-bit samples for 16-bit ones, ignores WhiteIsZero for deep samples, and scrambles
uncompressed pictures that are turned. tifffile reads the files that it can decode without further
packages. Pillow reads the rest, and its errors are corrected here.

Format: TIFF revision 6.0, Adobe (1992).
"""

import logging
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import TiffFile, TiffPage

from clapp.images.formats.profile import cmyk_to_srgb, levels_to_srgb
from clapp.images.samples import (
    Picture,
    as_rgb,
    fractions,
    grey,
    over_white,
    to_bytes,
    upright,
)

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its exceptions say enough

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PLAIN = {1, 8, 32773, 32946}  # compressions: none, deflate (two numbers), PackBits
_DEPTHS = (1, 8, 16, 32, 64)
_FLOAT_PREDICTOR = 3
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5
_SAMPLES = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4}
_KINDS = {1: "uint", 2: "int", 3: "float", 4: "uint"}
_PREMULTIPLIED, _ALPHA = 1, 2  # kinds of extra samples


def is_tiff(content: bytes) -> bool:
    """Whether a file's bytes begin as a TIFF or BigTIFF does."""
    return content[:4] in _MAGIC


def decode_tiff(content: bytes, *, managed: bool = False) -> Picture:
    """The first page as uint8 (H, W, 3), upright, transparency over white.

    Args:
        managed: read colours as its ICC profile means them.

    Raises:
        Exception: whatever tifffile or Pillow raise for a file that is truncated or corrupt.
    """
    try:
        file = TiffFile(BytesIO(content))
        page = file.pages[0]
    except Exception:  # Pillow tolerates more kinds of broken directories
        return _by_pillow(content, None, managed)
    if not isinstance(page, TiffPage):
        raise ValueError("its first page holds no picture")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and page.imagewidth * page.imagelength > 2 * limit:
        raise ValueError(f"it has more than {2 * limit} pixels")
    if reads_itself(page):
        profile = icc_profile(page) if managed else None
        picture = colours(page, _samples(page, len(content)), profile)
    else:
        picture = _by_pillow(_not_turned(content, page), page, managed)
    tag = page.tags.get("Orientation")
    return upright(picture, 1 if tag is None or not isinstance(tag.value, int) else tag.value)


def reads_itself(page: TiffPage) -> bool:
    """Whether tifffile decodes a page without further packages."""
    return (
        int(page.compression) in _PLAIN
        and int(page.photometric or 0) in _SAMPLES
        and page.bitspersample in _DEPTHS
        and int(page.predictor) != _FLOAT_PREDICTOR
    )


def icc_profile(page: TiffPage) -> bytes | None:
    """The colour profile of a page."""
    tag = page.tags.get("InterColorProfile")
    return tag.value if tag is not None and isinstance(tag.value, bytes) else None


def _samples(page: TiffPage, length: int) -> NDArray[Any]:
    """The samples as they are stored, (H, W, samples a pixel)."""
    ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if not ends or max(ends) > length or 0 in page.databytecounts:
        raise ValueError("the file is truncated")
    expected = page.imagelength * page.imagewidth * page.samplesperpixel * page.bitspersample / 8
    if int(page.compression) == 1 and sum(page.databytecounts) < expected:
        raise ValueError("the file is truncated")
    if page.imagedepth != 1:
        raise ValueError("it holds a volume, not a picture")
    array: NDArray[Any] = page.asarray()
    if page.samplesperpixel == 1:
        return array.reshape(page.imagelength, page.imagewidth, 1)
    if int(page.planarconfig or 1) == 2:
        return np.moveaxis(array, 0, -1)
    return array


def colours(page: TiffPage, samples: NDArray[Any], profile: bytes | None) -> Picture:
    """Samples (H, W, S) of a page as uint8 (H, W, 3), in sRGB where `profile` says from what."""
    photometric = int(page.photometric or 0)
    wanted = _SAMPLES[photometric]
    kind, bits = _KINDS.get(int(page.sampleformat or 1)), page.bitspersample
    if kind is None or samples.shape[2] < wanted:
        raise ValueError("its samples are of a kind that is no picture's")
    values, extra = samples[..., :wanted], samples[..., wanted:]
    managed = None
    if photometric == _PALETTE:
        rgb = _palette(page)[values[..., 0]]
    else:
        fraction = fractions(values, kind, bits)
        if photometric == _WHITE_IS_ZERO:
            fraction = 1 - fraction
        if photometric == _CMYK:
            managed = cmyk_to_srgb(to_bytes(fraction), profile)
            fraction = (1 - fraction[..., :3]) * (1 - fraction[..., 3:])
        rgb = to_bytes(np.broadcast_to(fraction, (*fraction.shape[:2], 3)))
    return _over_white(
        levels_to_srgb(rgb, profile) if managed is None else managed, extra, page, kind
    )


def _over_white(rgb: Picture, extra: NDArray[Any], page: TiffPage, kind: str) -> Picture:
    meanings = [int(meaning) for meaning in page.extrasamples]
    # RGB with a fourth sample of unspecified meaning is read as RGBA, as Pillow does.
    if extra.shape[2] == 1 and not meanings and rgb.shape[2] == 3:
        meanings = [_ALPHA]
    for meaning, place in zip(meanings, range(extra.shape[2]), strict=False):
        if meaning in (_PREMULTIPLIED, _ALPHA, 999):
            alpha = fractions(extra[..., place], kind, page.bitspersample)
            if meaning == _PREMULTIPLIED:
                light = rgb + 255 * (1 - alpha[..., None])
                return to_bytes(light.clip(0, 255) / 255)
            return over_white(rgb, alpha)
    return rgb


def _palette(page: TiffPage) -> Picture:
    """The colours of the palette, uint8 (N, 3)."""
    colours = np.asarray(page.colormap).T.astype(np.float64)  # (N, 3)
    # Some programs write eight bits where the format wants sixteen.
    eight: Picture = np.rint(colours / (257 if colours.max() > 255 else 1)).astype(np.uint8)
    return eight


def _not_turned(content: bytes, page: TiffPage) -> bytes:
    """The file with its orientation set to 1: Pillow scrambles uncompressed pictures of any
    other."""
    tag = page.tags.get("Orientation")
    if tag is None or not isinstance(tag.value, int):
        return content
    order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"
    at = tag.valueoffset
    return content[:at] + (1).to_bytes(2, order) + content[at + 2 :]


def _by_pillow(content: bytes, page: TiffPage | None, managed: bool) -> Picture:
    """The picture as Pillow decodes it, with greys of more than eight bits scaled."""
    with Image.open(BytesIO(content)) as image:
        image.load()
        if not managed:
            image.info.pop("icc_profile", None)
        if page is None or not image.mode.startswith(("I", "F")):
            return as_rgb(image)
        kind = _KINDS.get(int(page.sampleformat or 1), "uint")
        fraction = fractions(np.asarray(image), kind, page.bitspersample)
        if int(page.photometric or 0) == _WHITE_IS_ZERO:
            fraction = 1 - fraction
        return grey(to_bytes(fraction))
