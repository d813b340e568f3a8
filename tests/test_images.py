"""Sources of pictures: contracts all of them keep, and what each promises beyond."""

import io
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clapp.config import DataConfig, load_config
from clapp.errors import ConfigError, UserError
from clapp.images import open_source, stream
from clapp.images.decode import centre_crop, decode, shorter_side_to
from clapp.images.photos import PHOTOS, REGIONS

RNG = np.random.default_rng(0)


def data(**changes) -> DataConfig:
    return load_config().train_data.model_copy(update={"max_buffer": 100, **changes})


def encoded(array: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def flat(level: int) -> np.ndarray:
    return np.full((20, 30, 3), level, np.uint8)


def levels(pictures) -> list[int]:
    return [int(picture[0, 0, 0]) for picture in pictures]


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "pictures"
    (root / "deep" / "deeper").mkdir(parents=True)
    for i in range(6):
        (root / ("deep/deeper" if i % 2 else ".") / f"p{i}.png").write_bytes(encoded(flat(i * 20)))
    return root


@pytest.fixture
def parquet(tmp_path) -> Path:
    root = tmp_path / "parquet"
    root.mkdir()
    rows = [{"bytes": encoded(flat(i * 20)), "path": f"p{i}.png"} for i in range(6)]
    rows.insert(2, {"bytes": b"broken", "path": "bad.png"})
    table = pa.table({"picture": rows, "label": list(range(7))})
    pq.write_table(table, root / "train-00000-of-00001.parquet")
    return root


@pytest.fixture
def imagefolder(tmp_path) -> Path:
    root = tmp_path / "imagefolder"
    for split, numbers in {"train": range(6), "test": (9, 10)}.items():
        (root / split).mkdir(parents=True)
        for i in numbers:
            (root / split / f"p{i}.png").write_bytes(encoded(flat(i * 20)))
    (root / "train" / "bad.png").write_bytes(b"broken")
    return root


@pytest.fixture(autouse=True)
def _own_datasets_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    # After a stream of Parquet files the library waits 5 s for Arrow's threads.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1, raising=False)


@pytest.fixture(
    params=["photos", "synthetic", "photos+synthetic", "folder", "parquet", "imagefolder"]
)
def anything(request) -> DataConfig:
    """A configuration of every kind of source."""
    name = request.param
    if name == "folder":
        return data(name=f"folder:{request.getfixturevalue('folder')}", split="all")
    if name in ("parquet", "imagefolder"):
        key = "picture" if name == "parquet" else "image"
        return data(name=str(request.getfixturevalue(name)), image_key=key)
    return data(name=name)


def test_every_source_keeps_the_contract(anything):
    source = open_source(anything)
    first = list(islice(source.epoch(0), 6))
    for picture in first:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert picture.size
    again = list(islice(open_source(anything).epoch(0), 6))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(first[4:], islice(source.epoch(0, start=4), 2), strict=True):
        np.testing.assert_array_equal(one, other)
    other_seed = open_source(anything.model_copy(update={"seed": 1}))
    assert any(
        one.shape != other.shape or (one != other).any()
        for one, other in zip(first, other_seed.epoch(0), strict=False)
    )
    assert source.fingerprint() == open_source(anything).fingerprint()
    assert source.fingerprint() != other_seed.fingerprint()
    json.dumps(source.fingerprint())
    assert len(list(islice(stream(source), 20))) == 20
    assert source.describe()


def test_a_fresh_process_sees_the_same_pictures():
    code = (
        "from hashlib import sha256; from itertools import islice\n"
        "from clapp.config import load_config; from clapp.images import open_source\n"
        "config = load_config({'train_data': {'name': 'photos+synthetic'}})\n"
        "source = open_source(config.train_data)\n"
        "print(sha256(b''.join(p.tobytes() for p in islice(source.epoch(0), 4))).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert len(seen) == 1


def test_photos_splits_share_no_scene():
    sets = {split: set(names) for split, names in PHOTOS.items()}
    assert len(set.union(*sets.values())) == sum(map(len, sets.values()))
    assert {"motorcycle_left.png", "motorcycle_right.png"} <= sets["train"]
    for split, names in sets.items():
        pictures = list(open_source(data(split=split)).epoch(0))
        assert len(pictures) == len(names) * (1 + REGIONS[split])


def holds(whole: np.ndarray, part: np.ndarray) -> bool:
    """Whether `part` lies somewhere in `whole`; only where its corners fit, all is compared."""
    rows, columns = part.shape
    fits = np.ones((whole.shape[0] - rows + 1, whole.shape[1] - columns + 1), bool)
    for y, x in ((0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)):
        fits &= whole[y : y + fits.shape[0], x : x + fits.shape[1]] == part[y, x]
    return any(
        np.array_equal(whole[y : y + rows, x : x + columns], part) for y, x in np.argwhere(fits)
    )


def test_photos_say_which_picture_each_crop_is_of():
    from clapp.images.photos import _read

    source = open_source(data(split="test"))
    found = list(source.epoch(0))
    names = [PHOTOS["test"][number] for number in source.origins(len(found))]
    assert sorted(names[:6]) == sorted(PHOTOS["test"])
    for name, picture in zip(names[:12], found, strict=False):
        assert holds(_read(name)[..., 0], picture[..., 0]), name
    again = source.origins(40)  # the second epoch has another order
    assert sorted(again[36:]) != sorted(again[:4]) or again[36:] != again[:4]


def test_a_mix_says_which_pictures_are_one():
    from clapp.images import origins

    source = open_source(data(name="photos+synthetic", split="validation"))
    found = origins(source, 24)
    photographs, made = found[::2], found[1::2]
    assert photographs[:6] == photographs[6:]
    assert len(set(photographs)) == 6
    assert len(set(made)) == 12
    assert not set(photographs) & set(made)


def test_photos_epochs_start_with_each_whole_picture_in_another_order():
    source = open_source(data())
    first, second = (
        [p.shape for p in islice(source.epoch(n), len(PHOTOS["train"]))] for n in (0, 1)
    )
    assert sorted(first) == sorted(second)
    assert first != second


def test_synthetic_pictures_have_the_statistics_of_natural_ones():
    pictures = np.stack(list(islice(open_source(data(name="synthetic")).epoch(0), 12))) / 255.0
    luminance = pictures.mean(axis=3)
    chroma = pictures[..., 0] - pictures[..., 1], pictures[..., 0] - pictures[..., 2]
    assert 0.2 < luminance.mean() < 0.7
    assert all(luminance.std() > 1.5 * channel.std() for channel in chroma)
    # The power spectrum of natural scenes falls as the frequency to the power of about -2.
    waves = np.fft.fft2(luminance - luminance.mean((1, 2), keepdims=True))
    spectrum = np.mean(np.abs(waves) ** 2, axis=0)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(luminance.shape[1])] * 2))
    use = (frequency > 0.02) & (frequency < 0.2)
    slope = np.polyfit(np.log(frequency[use]), np.log(spectrum[use]), 1)[0]
    assert -3 < slope < -1.8


def test_synthetic_splits_differ():
    one, other = (
        next(open_source(data(name="synthetic", split=split)).epoch(0))
        for split in ("train", "validation")
    )
    assert (one != other).any()


def test_a_mix_takes_turns_and_never_ends():
    mixed = open_source(data(name="synthetic+photos", split="validation"))
    shapes = [picture.shape[:2] for picture in islice(mixed.epoch(0), 40)]
    assert all(shape == (288, 288) for shape in shapes[::2])
    assert len(set(shapes[1:13:2])) == 5  # whole pictures, two of the same size
    assert len(set(shapes[13:37:2])) > 8  # regions of them


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "photos", "split": "all"}, "allowed: train, validation, test"),
        ({"name": "photos+photos"}, "photos, synthetic, photos+synthetic, folder:PATH"),
        ({"name": "photos+folder:x"}, "known: photos"),
        ({"name": "flder:x"}, "known: photos"),
        ({"name": "folder:"}, "folder:PATH is expected"),
        ({"name": "huggingface:"}, "huggingface:NAME is expected"),
        ({"name": "folder:/", "split": "valid"}, "allowed: all, train, validation, test"),
    ],
)
def test_mistakes_in_the_configuration_are_named(changes, message):
    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        open_source(data(**changes))


# Decoding


def saved(path: Path, image: Image.Image, **options) -> np.ndarray:
    image.save(path, **options)
    return decode(path.read_bytes())


def test_sixteen_bit_grey_is_scaled(tmp_path):
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    for end in ("png", "tif"):
        result = saved(tmp_path / f"deep.{end}", Image.fromarray(deep))
        np.testing.assert_array_equal(result[0], [[0] * 3, [100] * 3, [255] * 3])


def test_floats_are_read_as_fractions_or_as_levels(tmp_path):
    for values in ([0.0, 0.2, 1.0], [0.0, 51.0, 255.0]):
        image = Image.fromarray(np.array([values], np.float32))
        assert saved(tmp_path / "f.tif", image)[0, :, 0].tolist() == [0, 51, 255]
    with pytest.raises(ValueError, match="range"):
        saved(tmp_path / "f.tif", Image.fromarray(np.array([[-3.0, 1.0]], np.float32)))


def test_transparency_lies_over_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)
    result = saved(tmp_path / "a.png", Image.fromarray(rgba))
    np.testing.assert_array_equal(result, [[[10, 20, 30], [255, 255, 255]]])
    grey = saved(tmp_path / "la.png", Image.fromarray(rgba).convert("LA"))
    assert grey[0, 1].tolist() == [255, 255, 255]


def test_palettes_keep_their_colours_and_their_transparency(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    assert saved(tmp_path / "p.png", palette).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    result = saved(tmp_path / "p.gif", palette, transparency=1)
    assert result.tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_other_modes_become_rgb(tmp_path):
    assert saved(tmp_path / "c.tif", Image.new("CMYK", (2, 2), (0, 255, 255, 0)))[0, 0, 0] > 200
    assert saved(tmp_path / "b.png", Image.new("1", (2, 2), 1)).tolist() == [[[255] * 3] * 2] * 2
    grey = saved(tmp_path / "l.bmp", Image.new("L", (3, 2), 77))
    assert grey.shape == (2, 3, 3)
    assert (grey == 77).all()


def test_the_exif_orientation_is_applied(tmp_path):
    image = Image.fromarray(RNG.integers(0, 256, (8, 16, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    result = saved(tmp_path / "o.png", image, exif=exif)
    np.testing.assert_array_equal(result, np.rot90(np.asarray(image), -1))


def test_resizing_extreme_pictures():
    assert shorter_side_to(np.zeros((1, 1, 3), np.uint8), 64).shape == (64, 64, 3)
    assert shorter_side_to(np.zeros((8000, 50, 3), np.uint8), 25).shape == (4000, 25, 3)
    for shape in ((1, 1, 3), (8000, 50, 3), (50, 8000, 3), (300, 400, 3)):
        assert centre_crop(np.full(shape, 9, np.uint8), 64, 48).shape == (48, 48, 3)


def test_the_centre_crop_is_pillows():
    picture = next(open_source(data(name="synthetic")).epoch(0))[:, :200]
    resized = Image.fromarray(picture).resize(
        (64, round(288 * 64 / 200)), Image.Resampling.BILINEAR
    )
    expected = np.asarray(resized)[22:70, 8:56]
    np.testing.assert_array_equal(centre_crop(picture, 64, 48), expected)


# Folders


def test_a_folder_is_searched_recursively(folder):
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(encoded(flat(250)))
    source = open_source(data(name=f"folder:{folder}", split="all"))
    assert sorted(levels(source.epoch(0))) == [0, 20, 40, 60, 80, 100]
    assert source.skipped.count == 0


def test_bad_pictures_are_left_out_counted_and_named_once(folder, caplog):
    from loguru import logger

    messages = []
    sink = logger.add(messages.append, level="WARNING")
    whole = encoded(RNG.integers(0, 256, (50, 50, 3), dtype=np.uint8))
    (folder / "truncated.png").write_bytes(whole[:900])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    source = open_source(data(name=f"folder:{folder}", split="all"))
    for number in range(3):
        assert len(list(source.epoch(number))) == 6
    logger.remove(sink)
    assert source.skipped.count == 3
    assert len(messages) == 3
    assert sum("truncated.png" in message for message in messages) == 1


def test_a_folder_of_bad_pictures_only_is_an_error(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    source = open_source(data(name=f"folder:{tmp_path}", split="all"))
    with pytest.raises(UserError, match=r"none of its 1 pictures can be read.*a\.png"):
        list(source.epoch(0))


def test_extreme_pictures_in_a_folder(tmp_path):
    for shape in ((1, 1, 3), (8000, 50, 3)):
        (tmp_path / f"{shape[0]}.png").write_bytes(encoded(np.zeros(shape, np.uint8)))
    source = open_source(data(name=f"folder:{tmp_path}", split="all"))
    assert sorted(picture.shape for picture in source.epoch(0)) == [(1, 1, 3), (8000, 50, 3)]


def test_folder_splits_by_hash_are_disjoint_and_stable(tmp_path):
    for i in range(60):
        (tmp_path / f"{i}.png").write_bytes(encoded(np.full((1, 1, 3), i, np.uint8)))

    def members(split):
        return set(levels(open_source(data(name=f"folder:{tmp_path}", split=split)).epoch(0)))

    before = {split: members(split) for split in ("train", "validation", "test")}
    assert set.union(*before.values()) == members("all") == set(range(60))
    assert sum(map(len, before.values())) == 60
    assert len(before["train"]) > 40
    (tmp_path / "another.png").write_bytes(encoded(flat(200)))
    assert all(before[split] <= members(split) for split in before)


def test_folder_splits_by_subfolder(imagefolder):
    name = f"folder:{imagefolder}"
    assert sorted(levels(open_source(data(name=name, split="test")).epoch(0))) == [180, 200]
    with pytest.raises(UserError, match="no subfolder 'validation' beside train, test"):
        open_source(data(name=name, split="validation"))


def test_a_changed_folder_has_another_fingerprint(folder):
    before = open_source(data(name=f"folder:{folder}", split="all")).fingerprint()
    (folder / "new.png").write_bytes(encoded(flat(1)))
    assert open_source(data(name=f"folder:{folder}", split="all")).fingerprint() != before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "there is no such folder"),
        (lambda path: path.write_text("x") and path, "this is a file"),
        (lambda path: path.mkdir() or path, "there are no pictures"),
    ],
)
def test_unusable_folders_are_named(tmp_path, make, message):
    path = make(tmp_path / "place")
    with pytest.raises(UserError, match=message) as caught:
        open_source(data(name=f"folder:{path}", split="all"))
    assert str(path) in str(caught.value)


# Hugging Face datasets, through the library's real calls on local data


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(("kind", "key"), [("parquet", "picture"), ("imagefolder", "image")])
def test_datasets_streamed_and_downloaded(request, kind, key, streaming):
    path = request.getfixturevalue(kind)
    chosen = data(name=f"huggingface:{path}", image_key=key, streaming=streaming)
    source = open_source(chosen)
    first, second = levels(source.epoch(0)), levels(source.epoch(1))
    assert sorted(first) == sorted(second) == [0, 20, 40, 60, 80, 100]
    assert first != second
    assert source.skipped.count == 1
    assert "bad.png" in next(iter(source.skipped.names))


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "nope"}, "nope.*train"),
        ({"image_key": "img"}, r"no column 'img' \(image_key\); its columns: picture, label"),
        ({"subset": "nope"}, "'nope' not found"),
        ({"name": "/no/such/place"}, "/no/such/place"),
    ],
)
def test_what_a_dataset_lacks_is_named(parquet, streaming, changes, message):
    chosen = {"name": str(parquet), "image_key": "picture", "streaming": streaming, **changes}
    with pytest.raises(UserError, match=message) as caught:
        next(open_source(data(**chosen)).epoch(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Dataset 'x' is a gated dataset on the Hub. You must be authenticated", "hf auth login"),
        ("Couldn't reach 'x' on the Hub (ConnectError)", "check the network"),
        ("Dataset 'x' doesn't exist on the Hub or cannot be accessed.", "other sources: photos"),
    ],
)
def test_what_the_hub_refuses_comes_with_advice(monkeypatch, reason, message):
    import datasets

    def refuse(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError(reason)

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=message):
        next(open_source(data(name="some/dataset")).epoch(0))
