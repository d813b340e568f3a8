"""Pictures of requests and answers: PNG, JPEG, or bytes of pixels, decoded within limits.

Only two of Pillow's decoders can be reached from outside, and none before the size that the file's
header says is known to be allowed.
"""

from http import HTTPStatus
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clapp.errors import one_line
from clapp.images.decode import decode
from clapp.inference.serve.refused import RefusedError

Picture = NDArray[np.uint8]

PNG, JPEG, RAW = "image/png", "image/jpeg", "application/octet-stream"
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
_SCANS = 100
"""More passes than an encoder makes of a JPEG picture: each costs time for nearly no bytes."""
_QUALITY = 95


class Shape(NamedTuple):
    """Of raw pixels: rows of uint8, channel by channel in each pixel."""

    height: int
    width: int
    channels: int


def read_raw(content: bytes, shape: Shape, most: int) -> Picture:
    """Raw pixels as uint8 (H, W, 3).

    Args:
        most: pixels that are allowed.

    Raises:
        RefusedError: too large, or not as many bytes as the shape says.
    """
    _check_pixels(shape.width, shape.height, most)
    expected = shape.height * shape.width * shape.channels
    if len(content) != expected:
        raise RefusedError(
            HTTPStatus.BAD_REQUEST,
            f"{shape.width}x{shape.height} pixels of {shape.channels} channels are {expected} "
            f"bytes; the body has {len(content)}",
        )
    pixels = np.frombuffer(content, np.uint8).reshape(shape)
    return pixels if shape.channels == 3 else np.repeat(pixels, 3, axis=2)


def read_file(content: bytes, most: int) -> Picture:
    """A PNG or JPEG file as uint8 (H, W, 3).

    Args:
        most: pixels that are allowed.

    Raises:
        RefusedError: neither of both, too large, or broken.
    """
    kind = next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)
    if kind is None:
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "the body is neither a PNG nor a JPEG file; raw pixels need ?width= and ?height=",
        )
    try:
        with Image.open(BytesIO(content), formats=[kind]) as image:  # reads the header
            width, height = image.size
        _check_pixels(width, height, most)
        if kind == "JPEG" and content.count(b"\xff\xda") > _SCANS:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, f"the JPEG file has more than {_SCANS} scans"
            )
        return decode(content)
    except RefusedError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit
        message = f"at most {most} pixels are allowed: {one_line(error)}"
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message) from error
    except Exception as error:  # Pillow's decoders raise nearly anything
        message = f"the {kind} file cannot be read: {one_line(error)}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, message) from error


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise RefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"{width}x{height} pixels: at most {most} pixels are allowed",
        )


def accepted(header: str | None) -> str:
    """The media type of an answer, by the header `Accept` of its request.

    Raises:
        RefusedError: none that can be given.
    """
    wanted = [part.partition(";")[0].strip().lower() for part in (header or "*/*").split(",")]
    for media in wanted:
        if media in (PNG, JPEG, RAW):
            return media
        if media in ("*/*", "image/*", ""):
            return PNG
    raise RefusedError(HTTPStatus.NOT_ACCEPTABLE, f"Accept: {PNG}, {JPEG} or {RAW} can be given")


def write(picture: Picture, media: str) -> bytes:
    """uint8 (H, W) or (H, W, 3) as a file, or as raw pixels."""
    if media == RAW:
        return picture.tobytes()
    buffer = BytesIO()
    if media == PNG:
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    else:
        Image.fromarray(picture).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def load_codecs() -> None:
    """Load what reading and writing need, which is slow the first time."""
    picture = np.zeros((8, 8, 3), np.uint8)
    for media in (PNG, JPEG):
        read_file(write(picture, media), picture.size)
