"""Pairs of pictures: a filter that is known by its results alone."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clapp.commands.app import app
from clapp.commands.train import train_to_folder
from clapp.config import Config, load_config
from clapp.errors import ConfigError, UserError
from clapp.filters.library import output_channels, resolve
from clapp.images import open_source, shared_pictures
from clapp.inference.evaluate import evaluate
from clapp.pool.batches import Batches
from clapp.pool.pool import Pool
from clapp.pool.validation import validation_set
from clapp.study.plan.plan import make_plan
from clapp.study.preparing.prepare import check_sources
from clapp.training.folder import read_result

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")


def scanned(image: np.ndarray) -> np.ndarray:
    """What a scanner of negatives might do: inverted, sharper, warmer, darker to the right."""
    soft = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)
    sharp = 1.6 * image - 0.6 * soft
    fall = np.linspace(1, 0.8, image.shape[1], dtype=np.float32)[None, :, None]
    return np.rint(((255 - sharp) * fall * (1.1, 1.0, 0.9)).clip(0, 255)).astype(np.uint8)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Photographs and what `scanned` makes of them, of several formats."""
    data = Path(find_spec("skimage").origin).parent / "data"
    for part in ("input", "target"):
        (tmp_path / part).mkdir()
    for name in PHOTOS:
        with Image.open(data / name) as opened:
            image = np.asarray(opened.convert("RGB"))
        shutil.copy(data / name, tmp_path / "input" / name)
        Image.fromarray(scanned(image)).save(tmp_path / "target" / f"{Path(name).stem}.png")
    return tmp_path


def section(folder: Path | str, **changes: Any) -> dict[str, Any]:
    return {"name": f"pairs:{folder}", "split": "train", "resize_base": 96, "crop_size": 48,
            "min_buffer": 4, "max_buffer": 40} | changes  # fmt: skip


def config_of(folder: Path | str, **changes: Any) -> Config:
    return load_config(
        {
            "train_data": section(folder),
            "valid_data": {"name": f"pairs:{folder}", "split": "validation", "resize_base": 96,
                           "crop_size": 64, "num_images": 4},
            "model": {"capacity": 6, "num_layers": 1, "norm": "none", "stem": 0,
                      "activation": "none", "padding": "replicate"},
            "train": {"device": "cpu", "optimizer": "adam", "max_iterations": 300,
                      "min_iterations": 300, "stop_l2_loss": None, "loss_type": "l2",
                      "learning_rate": 0.02},
            **changes,
        }
    )  # fmt: skip


def halves(folder: Path) -> Config:
    """Two photographs to validate on, one to test on, the others to train on."""
    for part in ("input", "target"):
        for place in ("v", "t"):
            (folder / place / part).mkdir(parents=True)
        for file in (folder / part).iterdir():
            if file.stem in ("coffee", "rocket"):
                shutil.move(file, folder / "v" / part / file.name)
            if file.stem == "motorcycle_left":
                shutil.move(file, folder / "t" / part / file.name)
    values = config_of(folder).model_dump()
    values["train_data"] |= {"split": "all"}
    values["valid_data"] |= {"name": f"pairs:{folder}/v/input,{folder}/v/target", "split": "all"}
    values["test_data"] |= {"name": f"pairs:{folder}/t", "split": "all"}
    return load_config(values)


def test_a_window_is_cut_from_both_at_one_place(pairs: Path) -> None:
    source = open_source(config_of(pairs).train_data.model_copy(update={"split": "all"}))
    windows = list(source.epoch(0))
    assert {w.shape for w in windows} == {(96, 96, 6)}
    assert len(windows) == 4 * 16 + 15  # as many as cover a picture, at most 16
    again = list(source.epoch(0, start=7))
    assert all((a == b).all() for a, b in zip(windows[7:], again, strict=True))
    with Image.open(pairs / "target" / "astronaut.png") as opened:
        target = np.asarray(opened)
    with Image.open(pairs / "input" / "astronaut.png") as opened:
        image = np.asarray(opened.convert("RGB"))
    both = np.concatenate([image, target], axis=2)
    assert sum(holds(both, window) for window in windows) >= 16


def holds(picture: np.ndarray, window: np.ndarray) -> bool:
    """Whether a window lies anywhere in a picture."""
    high, wide = window.shape[:2]
    inner = picture[: picture.shape[0] - high + 1, : picture.shape[1] - wide + 1]
    places = np.argwhere((inner == window[0, 0]).all(axis=2))
    return any((picture[y : y + high, x : x + wide] == window).all() for y, x in places)


def test_a_network_learns_the_results(pairs: Path, tmp_path: Path) -> None:
    config = halves(pairs)
    assert config.target_filter == "paired"
    assert config.model.output_channels == 3
    train_to_folder(config, tmp_path / "model")
    images, targets = validation_set(config.valid_data, config.target_filter)
    assert images.shape == targets.shape == (4, 64, 64, 3)
    before = float(((images.astype(float) - targets) ** 2).mean()) / 255**2
    found = evaluate(tmp_path / "model", config.valid_data.name, crop=200)
    assert found.images == 2
    assert read_result(tmp_path / "model")["loss"] < before / 2
    assert found.l2 < before / 2
    with pytest.raises(UserError, match="holds no results; the model learned pairs"):
        evaluate(tmp_path / "model", "photos:validation")
    picture = str(pairs / "input" / "astronaut.png")
    result = CliRunner().invoke(app, ["infer", str(tmp_path / "model"), picture,
                                      str(tmp_path / "out.png")])  # fmt: skip
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out.png") as opened:
        assert opened.size == (512, 512)


def test_crops_are_neither_turned_nor_resized(pairs: Path) -> None:
    config = halves(pairs)
    target = resolve("paired")
    with Pool.open(config.train_data, 1) as pool:
        images, targets = Batches(pool, target, 12, 48, 96, 0).get(0)
        stored = [pool[i] for i in range(4)]
    assert images.shape == targets.shape == (12, 48, 48, 3)
    for image, result in zip(images, targets, strict=True):
        both = np.concatenate([image, result], axis=2)
        assert any(holds(one, both) for one in stored)


def test_grey_results(pairs: Path) -> None:
    spec = {"name": "paired", "channels": 1}
    assert output_channels(spec) == 1
    data = config_of(pairs).valid_data.model_copy(update={"split": "all"})
    images, targets = validation_set(data, spec)
    assert (images.shape, targets.shape) == ((4, 64, 64, 3), (4, 64, 64))
    with pytest.raises(ConfigError, match="channels 2 is not allowed; allowed: 3, 1"):
        resolve({"name": "paired", "channels": 2})


def test_what_cannot_be_used_is_left_out_by_name(pairs: Path) -> None:
    (pairs / "target" / "chelsea.png").unlink()
    Image.new("RGB", (300, 300)).save(pairs / "target" / "extra.png")
    Image.new("RGB", (50, 40)).save(pairs / "target" / "coffee.png")
    (pairs / "target" / "rocket.png").write_bytes(b"")
    for part in ("input", "target"):
        Image.new("RGB", (60, 80)).save(pairs / part / "small.png")
    source = open_source(config_of(pairs).train_data.model_copy(update={"split": "all"}))
    assert len(list(source.epoch(0))) == 2 * 16
    reasons = {Path(name).name: reason for name, reason in source.skipped.names.items()}
    assert reasons == {
        "chelsea.png": "it has no target",
        "extra.png": "it has no input",
        "coffee.png": f"it has 600x400 pixels, its target {pairs}/target/coffee.png 50x40",
        "rocket.jpg": f"its target {pairs}/target/rocket.png: the file is empty",
        "small.png": "it has 60x80 pixels; sides of at least 96 are needed, "
        "as pairs are not resized",
    }  # fmt: skip
    assert source.skipped.count == 5


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda p: shutil.rmtree(p / "target"), "pairs:INPUT,TARGET, or pairs:PATH with the fold"),
        (
            lambda p: [f.unlink() for f in (p / "target").iterdir()],
            "no picture of one has the name",
        ),
        (
            lambda p: shutil.copy(p / "target/coffee.png", p / "input/coffee.bmp"),
            "coffee.png: coffee.bmp has the same name but for its suffix",
        ),
    ],
)
def test_folders_that_are_no_pairs(pairs: Path, break_it: Any, message: str) -> None:
    break_it(pairs)
    with pytest.raises((ConfigError, UserError), match=message) as caught:
        open_source(config_of(pairs).train_data.model_copy(update={"split": "all"}))
    assert "\n" not in str(caught.value)


def test_a_search_is_not_started_with_bad_pairs(pairs: Path, tmp_path: Path) -> None:
    file = tmp_path / "isp.yaml"
    train, valid = section(pairs, split="all"), section(pairs / "gone", split="all")
    del valid["max_buffer"], valid["min_buffer"]
    test = {"name": valid["name"], "split": "all"}
    data = {"train_data": train, "valid_data": valid, "test_data": test}
    content = {"search_space": "tiny", "baselines": {}, "config": data}
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="gone: there is no such folder"):
        check_sources(make_plan(str(file)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid_data": {}}, "valid_data.name photos holds no targets; with .* allowed: pairs:"),
        ({"train_data": {"target_filter": "sobel_3"}}, "train_data.name pairs:.* holds targets of"),
        ({"num_resolutions": 2}, "num_resolutions 2 is not allowed; allowed: 1, as pairs"),
        ({"parameter": {"sigma": [1, 2]}}, "filter paired has no parameter 'sigma'"),
    ],
)
def test_configurations_that_do_not_fit(pairs: Path, changes: Any, message: str) -> None:
    if "train_data" in changes:
        changes = {"train_data": section(pairs) | changes["train_data"]}
    with pytest.raises(ConfigError, match=message):
        config_of(pairs, **changes)
    with pytest.raises(ConfigError, match=r"train_data\.name photos holds no targets"):
        load_config({"train_data": {"target_filter": "paired"}})


def test_pictures_in_both_are_found(pairs: Path) -> None:
    data = config_of(pairs).train_data
    every = data.model_copy(update={"split": "all"})
    same = every.model_copy(update={"name": f"pairs:{pairs}/input,{pairs}/target"})
    plain = every.model_copy(update={"name": f"folder:{pairs}/input"})
    valid = data.model_copy(update={"split": "validation"})
    assert shared_pictures(every, same)
    assert shared_pictures(every, plain)
    assert shared_pictures(plain, every)
    assert shared_pictures(data, valid) is None
    assert shared_pictures(every, data.model_copy(update={"name": "photos"})) is None
