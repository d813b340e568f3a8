"""PNG and JPEG files stripped of metadata, so that broken metadata do not matter.

Formats: https://www.w3.org/TR/png-3/ and ITU-T T.81, annex B.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

PNG_START = b"\x89PNG\r\n\x1a\n"
"""How every PNG file begins."""
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_SCAN = 0xDA  # entropy-coded data follow
# Segments of JFIF and Adobe, which define the colour space, with their shortest valid lengths.
_JPEG_KEPT = {0xE0: 18, 0xEE: 16}


class Bare(NamedTuple):
    """A file without metadata, and its EXIF data if it has any."""

    content: bytes
    exif: bytes | None


def bare(content: bytes) -> Bare | None:
    """A PNG or JPEG file without metadata; None for other files, and for truncated ones."""
    try:
        if content.startswith(PNG_START):
            return _bare_png(content)
        if content.startswith(b"\xff\xd8\xff"):
            return _bare_jpeg(content)
    except (struct.error, IndexError):
        pass
    return None


def transparent_sample(content: bytes) -> tuple[int, ...] | None:
    """The grey or RGB samples that a PNG's tRNS chunk makes transparent, at the file's depth.

    None if there is none, and where Pillow handles it correctly: with a palette, or RGB of eight
    bits.
    """
    if not content.startswith(PNG_START) or len(content) < 26:
        return None
    depth, colour = content[24], content[25]
    if colour != 0 and (colour, depth) != (2, 16):
        return None
    wanted = 1 if colour == 0 else 3
    for name, chunk in _chunks(content):
        if name == b"IDAT":
            break
        if name == b"tRNS" and len(chunk) == 12 + 2 * wanted:
            values = struct.unpack(f">{wanted}H", chunk[8:-4])
            return tuple(value & (2**depth - 1) for value in values)
    return None


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and bytes (length, name, data, checksum) of each chunk of a PNG."""
    at = len(PNG_START)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], content[at : at + 12 + length]
        at += 12 + length
    if at < len(content):
        yield b"IDAT", content[at:]  # cut off


def _bare_png(content: bytes) -> Bare:
    kept, exif = [PNG_START], None
    for name, chunk in _chunks(content):
        if name in _PNG_PIXELS:
            kept.append(chunk)
        elif name == b"eXIf":
            exif = chunk[8:-4]
    return Bare(b"".join(kept), exif)


def _bare_jpeg(content: bytes) -> Bare:
    kept, exif, at = [content[:2]], None, 2
    while True:
        if content[at] != 0xFF:
            at += 1
            continue
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == _SCAN:
            kept.append(content[at:])
            return Bare(b"".join(kept), exif)
        (length,) = struct.unpack_from(">H", content, at + 2)
        segment = content[at : at + 2 + length]
        is_comment = marker == 0xFE or 0xE0 <= marker <= 0xEF
        if not is_comment or len(segment) >= _JPEG_KEPT.get(marker, len(segment) + 1):
            kept.append(segment)
        elif marker == 0xE1 and segment[4:10] == b"Exif\0\0" and exif is None:
            exif = segment[4:]
        at += 2 + length
