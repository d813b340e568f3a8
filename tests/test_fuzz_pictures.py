"""Pictures drawn at random, whole, cut off and changed: read right, or refused in one line.

`CLAPP_FUZZ=20000 pytest tests/test_fuzz_pictures.py` tries that many examples of each.
"""

import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st
from PIL import Image

from clapp.config import Layer, compose, load_config
from clapp.errors import UserError
from clapp.images import open_source
from clapp.images.samples import upright
from clapp.inference.picture import infer, read_picture
from clapp.models.build import build_model
from clapp.training.folder import save_config, save_weights

EXAMPLES = int(os.environ.get("CLAPP_FUZZ", "120"))
FUZZED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="CLAPP_FUZZ" not in os.environ,  # the same in every run of the short form
    suppress_health_check=list(HealthCheck),
)
MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "TIFF": ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"],
    "JPEG": ["L", "RGB", "CMYK", "YCbCr"],
    "GIF": ["1", "L", "P", "RGB", "RGBA", "LA"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "ICO": ["1", "L", "P", "RGB", "RGBA", "LA"],
    "WEBP": ["L", "RGB", "RGBA"],
    "PPM": ["1", "L", "RGB", "I;16", "I"],
    "TGA": ["1", "L", "LA", "P", "RGB", "RGBA"],
}
SUFFIXES = {"PNG": "png", "TIFF": "tif", "JPEG": "jpg", "WEBP": "webp", "PPM": "ppm"}
COMPRESSIONS = ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate", "group4"]
SIDES = st.integers(1, 40)


class Made(NamedTuple):
    """A file that Pillow or tifffile wrote.

    Attributes:
        suffix: of its format.
        size: height and width of its picture, upright.
        pixels: what must be read, (H, W, 3); None: not known here exactly.
        odd: it may hold samples of a kind that is no picture's.
    """

    suffix: str
    content: bytes
    size: tuple[int, int]
    pixels: np.ndarray | None = None
    odd: bool = False


@st.composite
def pictures(draw: st.DrawFn) -> Made:
    """A file as Pillow writes it."""
    kind = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    height, width = draw(SIDES), draw(SIDES)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = _image(mode, random.integers(0, 256, (height, width, 4), np.uint8))
    options: dict[str, object] = {}
    if kind == "TIFF":
        choices = COMPRESSIONS if mode == "1" else COMPRESSIONS[:-1]
        options["compression"] = draw(st.sampled_from(choices))
        options["tiffinfo"] = {274: draw(st.integers(0, 9))}
    if kind in ("PNG", "JPEG", "WEBP") and draw(st.booleans()):
        exif = Image.Exif()
        exif[274] = draw(st.integers(0, 9))
        options["exif"] = exif
    if kind == "PNG" and draw(st.booleans()) and mode in ("1", "L", "P", "RGB"):
        options["transparency"] = (1, 2, 3) if mode == "RGB" else draw(st.integers(0, 255))
    if kind in ("GIF", "PNG", "TIFF") and draw(st.integers(0, 4)) == 0:
        options |= {"save_all": True, "append_images": [image]}
    if kind == "ICO":
        options["sizes"] = [(width, height)]
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, RuntimeError, ValueError):
        reject()  # no such file can be written
    tags = options.get("tiffinfo") or options.get("exif") or {}
    orientation = tags.get(274, 1)
    size = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
    exact = mode in ("1", "L", "RGB") and kind not in ("JPEG", "WEBP")
    exact = exact and "transparency" not in options and (kind, mode) != ("GIF", "RGB")
    pixels = upright(np.array(image.convert("RGB")), orientation) if exact else None
    return Made(SUFFIXES.get(kind, kind.lower()), buffer.getvalue(), size, pixels)


def _image(mode: str, pixels: np.ndarray) -> Image.Image:
    if mode in ("I;16", "I", "F"):
        values = pixels[..., 0].astype(np.uint16) * 257
        if mode == "F":
            return Image.fromarray(pixels[..., 0].astype(np.float32) / 255)
        return Image.fromarray(values if mode == "I;16" else values.astype(np.int32))
    if mode == "LAB":
        return Image.frombytes("LAB", pixels.shape[1::-1], pixels[..., :3].tobytes())
    image = Image.fromarray(pixels)
    return (
        image.convert("RGBA").convert("LA").convert("PA") if mode == "PA" else image.convert(mode)
    )


@st.composite
def deep_tiffs(draw: st.DrawFn) -> Made:
    """TIFF files of any depth, as tifffile writes them."""
    height, width = draw(SIDES), draw(SIDES)
    dtype = draw(st.sampled_from(["u1", "u2", "u4", "u8", "i1", "i2", "f2", "f4", "f8", "?"]))
    channels = draw(st.sampled_from([1, 2, 3, 4, 5]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (height, width, channels) if channels > 1 else (height, width)
    values = random.random(shape) if dtype[0] == "f" else random.integers(0, 100, shape)
    options: dict[str, object] = {
        "compression": draw(st.sampled_from([None, "zlib", "packbits"])),
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
        "tile": draw(st.sampled_from([None, (16, 16)])),
        "photometric": draw(st.sampled_from(["minisblack", "miniswhite", "rgb"])),
        "planarconfig": "contig" if channels > 1 else None,  # else they are taken for pages
        "metadata": None,
        "rowsperstrip": draw(st.sampled_from([None, 1, 7])),
    }
    if channels < 3:
        options["photometric"] = draw(st.sampled_from(["minisblack", "miniswhite"]))
    if options["tile"]:
        options.pop("rowsperstrip")
    buffer = io.BytesIO()
    try:
        tifffile.imwrite(buffer, values.astype(dtype), **options)
    except (ValueError, RuntimeError, KeyError, TypeError, NotImplementedError):
        reject()
    return Made("tif", buffer.getvalue(), (height, width), odd=dtype not in ("u1", "u2", "f4"))


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file cut off, with bytes changed, left out, doubled or added, or of another format."""
    made = draw(st.one_of(pictures(), deep_tiffs()))
    suffix, data = made.suffix, bytearray(made.content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        if draw(st.booleans()):
            at = min(at, draw(st.integers(0, 120)))  # headers decide most
        match draw(st.sampled_from(["cut", "change", "extreme", "out", "add", "double"])):
            case "cut":
                del data[at:]
            case "change":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "extreme":
                width = draw(st.sampled_from([1, 2, 4]))
                data[at : at + width] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f"])) * width
            case "out":
                del data[at : at + draw(st.integers(1, 40))]
            case "add":
                data[at:at] = draw(st.binary(max_size=40))
            case "double":
                data += data[at : at + 4000]
    if draw(st.integers(0, 9)) == 0:
        suffix = draw(st.sampled_from(["png", "tif", "jpg", "gif", "bmp", "ico", "webp", "psd"]))
    return suffix, bytes(data)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    values = {"capacity": 1, "num_layers": 1, "kernel_size": 3, "padding": "reflect"}
    config = compose([Layer("test", {"model": values})], stored=True)
    torch.manual_seed(0)
    folder.mkdir()
    save_config(folder, config)
    save_weights(folder, build_model(config.model).eval())
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bombs are refused by their number of pixels; a million is one here."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of files that Pillow gave up
        yield


def is_picture(array: object) -> bool:
    return (
        isinstance(array, np.ndarray)
        and array.dtype == np.uint8
        and array.ndim == 3
        and array.shape[2] == 3
        and min(array.shape) > 0
    )


def check_refusal(error: UserError) -> None:
    text = str(error)
    assert text.strip()
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 1000
    assert not re.search(r"Traceback|object at 0x|<_io", text), text


@FUZZED
@given(st.one_of(pictures(), deep_tiffs()))
def test_whole_pictures_are_read(made: Made) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"p.{made.suffix}"
        file.write_bytes(made.content)
        if not made.odd:
            found = read_picture(file)
        else:
            try:
                found = read_picture(file)
            except UserError as error:
                check_refusal(error)
                return
        assert is_picture(found)
        assert found.shape[:2] == made.size
        if made.pixels is not None:
            np.testing.assert_array_equal(found, made.pixels)


@FUZZED
@given(
    st.lists(st.one_of(spoilt(), st.tuples(st.just("png"), st.binary(max_size=300))), max_size=4)
)
@example([("png", b"")])
def test_a_folder_of_spoilt_pictures(made: list[tuple[str, bytes]]) -> None:
    """Whatever lies beside it, the good picture is found, and what is left out is counted."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        Image.new("RGB", (20, 30), "red").save(folder / "good.png")
        for number, (suffix, content) in enumerate(made):
            (folder / f"spoilt{number}.{suffix}").write_bytes(content)
        data = load_config({"train_data": {"name": f"folder:{folder}", "split": "all"}}).train_data
        source = open_source(data)
        found = list(source.epoch(0))
        assert all(map(is_picture, found))
        assert len(found) + source.skipped.count == len(made) + 1
        assert any(picture.shape == (30, 20, 3) for picture in found)
        for name, reason in source.skipped.names.items():
            assert "spoilt" in name
            check_refusal(UserError(reason))


@FUZZED
@given(spoilt(), st.sampled_from(["png", "jpg", "tif", "bmp", "ico", "gif", "webp"]))
def test_infer_on_spoilt_pictures(model: Path, made: tuple[str, bytes], out: str) -> None:
    suffix, content = made
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place) / f"in.{suffix}", Path(place) / f"out.{out}"
        source.write_bytes(content)
        try:
            infer(model, source, target)
        except UserError as error:
            check_refusal(error)
            assert not target.exists()
            assert [path.name for path in Path(place).iterdir()] == [source.name]
        else:
            assert read_picture(target).shape[:2] == read_picture(source).shape[:2]
