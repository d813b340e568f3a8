"""Large files are read and written strip by strip, with the same pixels as at once."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from clapp.errors import UserError
from clapp.images.decode import decode
from clapp.images.formats import strips
from clapp.images.formats.strips import open_strips
from clapp.images.formats.write import WRITERS
from clapp.images.samples import upright
from clapp.inference.pixels import InMemory, OnDisk, open_pixels

HEIGHT, WIDTH = 37, 23
DRAW = np.random.default_rng(0)
NOISE = DRAW.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
SMOOTH = cv2.GaussianBlur(NOISE, (0, 0), 3)  # so that every filter of PNG is chosen somewhere


@pytest.fixture(autouse=True)
def _short_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "_BYTES", 60)


def strip_by_strip(content: bytes) -> np.ndarray:
    found = open_strips(io.BytesIO(content))
    assert found is not None
    bands = list(found.rows)
    assert len(bands) > 1
    return upright(np.concatenate(bands), found.orientation)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def wide_gamut() -> bytes:
    """An ICC profile that is not sRGB: its red and green change places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    swapped = bytearray(profile)
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(swapped).replace(b"s\0R\0G\0B", b"x\0R\0G\0B").replace(b"\0s\0R", b"\0x\0R")


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[274] = orientation
    return found


@pytest.mark.parametrize("pixels", [NOISE, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png(mode: str, pixels: np.ndarray) -> None:
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 251)
    elif mode == "RGBA":
        image = Image.fromarray(pixels)
    else:
        image = Image.fromarray(pixels[..., :3]).convert(mode)
    content = saved(image, "PNG", exif=exif(6))
    assert np.array_equal(strip_by_strip(content), decode(content))


@pytest.mark.parametrize("channels", [3, 4])
def test_png_of_sixteen_bits(channels: int) -> None:
    wide = SMOOTH[..., :channels].astype(np.uint16) * 257 + NOISE[..., :channels] // 9
    content = cv2.imencode(".png", wide)[1].tobytes()
    assert np.array_equal(strip_by_strip(content), decode(content))


@pytest.mark.parametrize(("mode", "key"), [("RGB", (1, 2, 3)), ("L", 7), ("P", 3)])
def test_png_with_a_transparent_colour(mode: str, key: object) -> None:
    image = Image.fromarray(NOISE[..., :3]).convert(mode)
    content = saved(image, "PNG", transparency=key)
    assert np.array_equal(strip_by_strip(content), decode(content))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_profiles_are_followed_strip_by_strip(mode: str) -> None:
    image = Image.fromarray(SMOOTH).convert("RGB").convert(mode)
    content = saved(image, "PNG", icc_profile=wide_gamut())
    found = strip_by_strip(content)
    assert np.array_equal(found, decode(content, managed=True))
    plain = decode(content)
    if mode == "L":  # an RGB profile says nothing of greys
        assert np.array_equal(found, plain)
    else:
        assert np.abs(found.astype(int) - plain).mean() > 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff(compression: str | None, orientation: int) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        NOISE[..., :3],
        photometric="rgb",
        compression=compression,
        rowsperstrip=5,
        extratags=[(274, "H", 1, orientation, True)],
    )
    content = buffer.getvalue()
    assert np.array_equal(strip_by_strip(content), decode(content))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_tiff_of_greys(kind: type, order: str, tile: tuple[int, int] | None) -> None:
    buffer = io.BytesIO()
    values = NOISE[..., 0].astype(kind) * (1 if kind == np.uint8 else 120)
    tifffile.imwrite(buffer, values, byteorder=order, tile=tile, photometric="minisblack")
    content = buffer.getvalue()
    assert np.array_equal(strip_by_strip(content), decode(content))


@pytest.mark.parametrize("compression", ["raw", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "CMYK", "LA"])
def test_tiff_by_pillow(mode: str, compression: str) -> None:
    image = Image.fromarray(SMOOTH[..., :3]).convert(mode)
    content = saved(image, "TIFF", compression=compression, tiffinfo={278: 4})
    assert np.array_equal(strip_by_strip(content), decode(content))


def test_what_can_only_be_read_at_once() -> None:
    floats = io.BytesIO()
    tifffile.imwrite(floats, NOISE[..., 0].astype(np.float32) / 255)
    jpeg = saved(Image.fromarray(NOISE[..., :3]), "JPEG")
    for content in (floats.getvalue(), jpeg, saved(Image.fromarray(NOISE[..., :3]), "BMP")):
        assert open_strips(io.BytesIO(content)) is None


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str, ahead: bool) -> None:
    content = saved(Image.fromarray(NOISE[..., :3]), kind)
    path = tmp_path / "in.png"
    path.write_bytes(content[: len(content) * 2 // 3])
    opened = []

    def last_row() -> None:
        with open_pixels(path, 0, ahead=ahead) as pixels:
            opened.append(pixels)
            pixels.part(slice(HEIGHT - 1, HEIGHT), slice(0, WIDTH))

    with pytest.raises(UserError, match=r"in\.png: cannot be read as a picture"):
        last_row()
    assert ahead or not opened  # only what is read ahead is opened first


def test_parts_wait_for_their_rows_and_no_others() -> None:
    """Of a file that is read ahead, while the reader stands still before its second strip."""
    go, closed = threading.Event(), threading.Event()

    def rows() -> Iterator[np.ndarray]:
        yield NOISE[:4, :, :3]
        assert go.wait(60)
        yield NOISE[4:, :, :3]

    class Source(io.BytesIO):
        def close(self) -> None:
            closed.set()
            super().close()

    with closing(OnDisk(strips.Strips(HEIGHT, WIDTH, 1, rows()), Source(), "in.png")) as pixels:
        everything = slice(0, WIDTH)
        assert np.array_equal(pixels.part(slice(1, 4), everything), NOISE[1:4, :, :3])
        late: list[np.ndarray] = []
        waiting = threading.Thread(
            target=lambda: late.append(pixels.part(slice(2, HEIGHT), everything))
        )
        waiting.start()
        waiting.join(0.2)
        assert not late
        assert not closed.is_set()
        go.set()
        waiting.join(60)
        assert np.array_equal(late[0], NOISE[2:, :, :3])
        assert closed.wait(60)  # all is read: the file is let go


def test_a_picture_that_is_given_up_is_read_no_further() -> None:
    read = []

    def rows() -> Iterator[np.ndarray]:
        for number in range(HEIGHT):
            read.append(number)
            time.sleep(0.01)
            yield NOISE[number : number + 1, :, :3]

    pixels = OnDisk(strips.Strips(HEIGHT, WIDTH, 1, rows()), io.BytesIO(), "in.png")
    pixels.part(slice(0, 1), slice(0, WIDTH))
    pixels.close()
    count = len(read)
    assert count < HEIGHT
    time.sleep(0.05)
    assert len(read) == count


def test_pixels_that_end_too_early_are_refused() -> None:
    """A PNG file that is whole, of whose pixels the last rows are missing."""
    header = strips._header(WIDTH, HEIGHT, 8, 2)
    rows = np.pad(NOISE[:-1, :, :3].reshape(HEIGHT - 1, -1), ((0, 0), (1, 0)))
    found = open_strips(io.BytesIO(strips._file(header, b"", rows.tobytes())))
    assert found is not None
    with pytest.raises(ValueError, match="the file is truncated"):
        list(found.rows)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_parts_of_a_picture_on_disk(tmp_path: Path, orientation: int) -> None:
    content = saved(Image.fromarray(NOISE[..., :3]), "PNG", exif=exif(orientation))
    whole = decode(content)
    (tmp_path / "in.png").write_bytes(content)
    with open_pixels(tmp_path / "in.png", 0) as pixels:
        assert isinstance(pixels, OnDisk)
        assert (pixels.shape, pixels.held) == (whole.shape[:2], 0)
        for rows, columns in ((slice(0, 5), slice(3, 9)), (slice(7, 20), slice(0, whole.shape[1]))):
            assert np.array_equal(pixels.part(rows, columns), whole[rows, columns])
    with open_pixels(content, 10**9) as pixels:
        assert isinstance(pixels, InMemory)
        assert np.array_equal(pixels.part(slice(0, 5), slice(0, 9)), whole[:5, :9])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_what_is_written_is_what_readers_get(kind: str, channels: int, bits: int) -> None:
    picture = (SMOOTH if channels == 1 else NOISE)[..., :channels]
    if bits == 16:
        picture = picture.astype(np.uint16) * 257 + picture // 3
    picture = picture[..., 0] if channels == 1 else picture
    buffer = io.BytesIO()
    bands = [picture[:9], picture[9:10], picture[10:]]
    WRITERS[kind](buffer, bands, picture.shape, bits)
    flags = cv2.IMREAD_UNCHANGED
    found = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), flags)
    assert found.dtype == picture.dtype
    assert np.array_equal(found if channels == 1 else found[..., ::-1], picture)
    with Image.open(buffer) as image:
        image.load()
        assert image.size == (WIDTH, HEIGHT)


def test_png_is_hardly_larger_than_by_pillow_at_the_same_level() -> None:
    picture = cv2.resize(SMOOTH[..., 0], (300, 400), interpolation=cv2.INTER_CUBIC)
    buffer = io.BytesIO()
    WRITERS["PNG"](buffer, [picture], picture.shape, 8)
    by_pillow = saved(Image.fromarray(picture), "PNG", compress_level=4)
    assert len(buffer.getvalue()) < 1.05 * len(by_pillow)
