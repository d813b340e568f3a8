"""Pictures as files hold them: depths, colours, orientations, transparency; bad metadata."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from clapp.images.decode import decode
from clapp.images.samples import upright

RNG = np.random.default_rng(0)
RAMP = np.tile(np.arange(64, dtype=np.uint16) * 1040, (8, 1))  # (8, 64), 0 to 65520
BYTES = RNG.integers(0, 256, (8, 16), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (8, 16, 4), dtype=np.uint8)
OVER_WHITE = RGBA[..., :3] * (RGBA[..., 3:] / 255) + 255 - RGBA[..., 3:]


def tiff(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def pillow(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def png(depth: int, colour: int, size: tuple[int, int], rows: bytes, *more) -> bytes:
    """A PNG of (width, height) from its unfiltered rows, with further chunks."""
    head = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def packed_tiff(bits: int, photometric: int, orientation: int) -> bytes:
    """A ramp of 64 greys from 0 to white, 8 rows, packed without compression."""
    levels = np.rint(np.arange(64) / 63 * (2**bits - 1)).astype(int)
    row = "".join(f"{level:0{bits}b}" for level in levels)
    strip = int(row, 2).to_bytes(len(row) // 8, "big") * 8
    tags = [(256, 64), (257, 8), (258, bits), (259, 1), (262, photometric), (273, 200)]
    tags += [(274, orientation), (277, 1), (278, 8), (279, len(strip))]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + strip


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_deep_greys(photometric, compression, order):
    content = tiff(RAMP, photometric=photometric, compression=compression, byteorder=order)
    white = RAMP / 257 if photometric == "minisblack" else 255 - RAMP / 257
    assert np.abs(decode(content)[..., 0] - white).max() <= 0.5


@pytest.mark.parametrize("photometric", [0, 1])
def test_pillow_reads_the_compressions_tifffile_does_not(photometric):
    content = pillow(
        Image.fromarray(RAMP), "TIFF", compression="tiff_lzw", tiffinfo={262: photometric}
    )
    white = RAMP / 257 if photometric else 255 - RAMP / 257
    assert np.abs(decode(content)[..., 0] - white).max() <= 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [4, 8, 12])
def test_packed_greys_in_every_orientation(bits, orientation):
    found = decode(packed_tiff(bits, 1, orientation))
    ramp = np.tile(np.arange(64) / 63 * 255, (8, 1))[..., None]
    expected = upright(ramp, orientation)
    assert found.shape[:2] == expected.shape[:2]
    assert np.abs(found - expected).max() <= 255 / 2 ** (bits + 1) + 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_every_orientation_of_every_compression(compression, orientation):
    content = pillow(
        Image.fromarray(BYTES), "TIFF", compression=compression, tiffinfo={274: orientation}
    )
    np.testing.assert_array_equal(
        decode(content)[..., 0], upright(BYTES[..., None], orientation)[..., 0]
    )


def test_the_orientations_are_those_of_exif():
    corner = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    firsts = {o: upright(corner, o)[..., 0].tolist()[0] for o in range(1, 9)}
    # The row that is seen on top, from the definition of EXIF tag 274.
    assert firsts == {
        1: [0, 1, 2],
        2: [2, 1, 0],
        3: [5, 4, 3],
        4: [3, 4, 5],
        5: [0, 3],
        6: [3, 0],
        7: [5, 2],
        8: [2, 5],
    }


def test_colours_of_sixteen_bits_and_floats():
    deep = RNG.integers(0, 65536, (8, 16, 3), dtype=np.uint16)
    planes = tiff(deep.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    for content in (tiff(deep, photometric="rgb"), planes):
        assert np.abs(decode(content) - deep / 257).max() <= 0.5
    for kind in (np.float16, np.float32, np.float64):
        values = RNG.random((8, 16, 3)).astype(kind)
        assert np.abs(decode(tiff(values, photometric="rgb")) - values * 255.0).max() <= 0.6
        grey = decode(tiff(values[..., 0], photometric="miniswhite"))[..., 0]
        assert np.abs(grey - (1 - values[..., 0]) * 255.0).max() <= 0.6


def test_signed_integers_end_at_half():
    found = decode(tiff((RAMP // 2).astype(np.int16)))[..., 0]
    assert np.abs(found - (RAMP // 2) / 32767 * 255).max() <= 0.5


def test_further_samples_of_a_pixel():
    def read(array, kind):
        return decode(tiff(array, photometric="rgb", extrasamples=[kind]))

    assert np.abs(read(RGBA, "unassalpha") - OVER_WHITE).max() <= 0.5
    light = (RGBA[..., :3] * (RGBA[..., 3:] / 255)).round().astype(np.uint8)
    found = read(np.dstack([light, RGBA[..., 3]]), "assocalpha")
    assert np.abs(found - OVER_WHITE).max() <= 1
    np.testing.assert_array_equal(read(RGBA, "unspecified"), RGBA[..., :3])


def test_palettes_inks_and_bits():
    colours = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    found = decode(tiff(BYTES, photometric="palette", colormap=colours))
    assert np.abs(found - colours.T[BYTES] / 257).max() <= 0.5
    inks = Image.fromarray(RGBA, "CMYK")
    difference = decode(pillow(inks, "TIFF")).astype(int) - np.asarray(inks.convert("RGB"))
    assert np.abs(difference).max() <= 1
    bits = RNG.integers(0, 2, (8, 16)).astype(bool)
    for photometric in ("minisblack", "miniswhite"):
        found = decode(tiff(bits, photometric=photometric))[..., 0]
        np.testing.assert_array_equal(found, (bits ^ (photometric == "miniswhite")) * 255)


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (np.ones((4, 4), np.complex64), {}, "of a kind that is no picture's"),
        (RAMP.astype(np.uint32) << 12, {}, "leave the range 0 to 65535"),
        (np.full((4, 4), np.nan, np.float32), {}, "not finite"),
        (np.zeros((16, 16, 16), np.uint8), {"volumetric": True, "tile": (16, 16, 16)}, "a volume"),
    ],
)
def test_what_is_no_picture_is_refused(array, options, reason):
    with pytest.raises(ValueError, match=reason):
        decode(tiff(array, **options))


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 8}, {"compression": "zlib"}])
def test_truncated_tiffs_are_refused(options):
    content = tiff(RNG.integers(0, 256, (99, 99), dtype=np.uint8), **options)
    with pytest.raises(ValueError, match="truncated"):
        decode(content[:-300])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(1, 0, (4, 1), b"\0\x50", (b"tRNS", b"\0\0")), [255, 255, 255, 255]),
        (png(2, 0, (4, 1), b"\0\x1b", (b"tRNS", b"\0\1")), [0, 255, 170, 255]),
        (png(4, 0, (2, 1), b"\0\x13", (b"tRNS", b"\0\1")), [255, 51]),
        (png(8, 0, (2, 1), b"\0\x1f\x20", (b"tRNS", b"\0\x1f")), [255, 32]),
        (png(16, 0, (2, 1), b"\0\x1f\x20\x1f\x21", (b"tRNS", b"\x1f\x20")), [255, 31]),
        (png(8, 2, (2, 1), b"\0\1\2\3\1\2\4", (b"tRNS", b"\0\1\0\2\0\3")), [255, 1]),
        (
            png(16, 2, (2, 1), b"\0\1\1\2\2\3\3\1\1\2\2\3\4", (b"tRNS", b"\1\1\2\2\3\3")),
            [255, 1],
        ),
        (
            png(2, 3, (4, 1), b"\0\x1b", (b"PLTE", bytes(range(12))), (b"tRNS", b"\xff\x80\0")),
            [0, 129, 255, 9],
        ),
        (png(16, 4, (2, 1), b"\0\x80\0\xff\xff\x80\0\0\0"), [128, 255]),
    ],
)
def test_transparency_of_every_kind_of_png(content, expected):
    assert decode(content)[0, :, 0].tolist() == expected


LONG = zlib.compress(b"a" * 5_000_000)


@pytest.mark.parametrize(
    "bad",
    [
        (b"eXIf", b"garbage"),
        (b"zTXt", b"k\0\0" + LONG),
        (b"iTXt", b"k\0\1\0\0\0" + LONG),
        (b"iCCP", b"x\0\0" + LONG),
        (b"iCCP", b"x\0\0bad"),
        (b"gAMA", b""),
        (b"cHRM", b"1"),
        (b"pHYs", b"1"),
        (b"acTL", b"\0"),
    ],
    ids=lambda bad: bad[0].decode(),
)
def test_bad_metadata_of_a_png_are_harmless(bad):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    rows = b"\0\x1f\x20"
    assert decode(png(8, 0, (2, 1), rows, bad))[0, :, 0].tolist() == [31, 32]
    if bad[0] != b"eXIf":
        assert decode(png(8, 0, (2, 1), rows, turned, bad))[:, 0, 0].tolist() == [31, 32]


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE1, b"Exif\0\0garbage"),
        (0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0garbage"),
        (0xED, b"Photoshop 3.0\x008BIM\x04"),
        (0xEE, b"Adobe"),
        (0xE0, b"JFIF"),
    ],
)
def test_bad_metadata_of_a_jpeg_are_harmless(marker, content):
    good = pillow(Image.fromarray(RGBA[..., :3]), "JPEG")
    found = decode(good[:2] + segment(marker, content) + good[2:])
    np.testing.assert_array_equal(found, decode(good))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_orientation_of_every_format(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.repeat(BYTES[..., None], 3, axis=2))
    assert decode(pillow(image, kind, exif=exif)).shape == (16, 8, 3)
    if kind != "TIFF":
        assert decode(pillow(image, kind, exif=b"Exif\0\0garbage")).shape == (8, 16, 3)
