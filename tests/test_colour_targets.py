"""Targets of three channels and of floats, from the filter to the export."""

import json
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import clapp
from PIL import Image

from clapp.commands.train import train_to_folder
from clapp.config import Config, load_config
from clapp.errors import UserError
from clapp.filters.base import FILTERS, as_unit
from clapp.filters.learned.settings import check_filter
from clapp.filters.library import apply_filter, register_filter, resolve
from clapp.inference.evaluate import evaluate
from clapp.inference.picture import infer
from clapp.inference.runner import open_runner
from clapp.pool.validation import constant_l2, validation_set
from clapp.training.folder import PREVIEW, load_trained
from clapp.training.preview import predict, signed
from clapp.training.tensors import target_tensor
from clapp.training.trainer import Trainer, train

SMALL: dict[str, Any] = {
    "model": {"capacity": 3, "num_layers": 1, "kernel_size": 1, "norm": "none", "stem": 0},
    "train_data": {"crop_size": 16, "resize_base": 32, "min_buffer": 4, "max_buffer": 8},
    "valid_data": {"num_images": 3, "crop_size": 48, "resize_base": 64},
    "train": {"max_iterations": 200, "min_iterations": 0, "loss_type": "l2", "starts": 2},
}


def config_of(spec: Any, **train: Any) -> Config:
    return load_config(
        {
            **SMALL,
            "train_data": {**SMALL["train_data"], "target_filter": spec},
            "train": {**SMALL["train"], "device": "cpu", **train},
        }
    )


@pytest.fixture(scope="module")
def sepia(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colour") / "sepia"
    train_to_folder(config_of("sepia"), folder)
    return folder


def test_a_network_learns_colour(sepia: Path) -> None:
    model, config = load_trained(sepia)
    assert config.model.output_channels == 3
    images, targets = validation_set(config.valid_data, "sepia")
    assert targets.shape == images.shape
    outputs = predict(model, images)
    assert outputs.shape == images.shape
    error = float(((outputs - as_unit(targets)) ** 2).mean())
    loss = json.loads((sepia / "result.json").read_text())["loss"]
    assert error == pytest.approx(loss, rel=1e-3)
    assert loss < 0.05 * constant_l2(config.valid_data, "sepia")
    preview = np.asarray(Image.open(sepia / PREVIEW).convert("RGB")).astype(int)
    assert np.ptp(preview[22:, 190:360], axis=2).max() > 20  # the filter's column has colour


def test_infer_and_evaluate_give_colour(sepia: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (30, 41, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    infer(sepia, tmp_path / "in.png", tmp_path / "out.png")
    written = np.asarray(Image.open(tmp_path / "out.png"))
    assert written.shape == picture.shape
    difference = np.abs(written.astype(int) - apply_filter("sepia", picture))
    assert difference.mean() < 12
    found = evaluate(sepia, "photos:validation", resize=64, crop=48)
    assert found.psnr > 25
    with pytest.raises(UserError, match="returns 3 channels; the filter canny returns 1"):
        evaluate(sepia, "photos:validation", filter="canny")


def test_floats_are_learned_that_eight_bits_would_cut() -> None:
    @register_filter("faint", gives=3)
    def faint(image: np.ndarray) -> np.ndarray:
        return image / (255 * 400.0)  # everything is below one grey level

    try:
        config = config_of("faint", optimizer="lm")
        targets = validation_set(config.valid_data, "faint")[1]
        assert targets.dtype == np.float32
        assert 0 < targets.max() < 1 / 255
        result = train(config)
    finally:
        FILTERS.remove("faint")
    assert result.loss < 0.5 * float(targets.var(axis=(0, 1, 2)).mean())


def test_adam_learns_colour_too() -> None:
    config = config_of("sepia", optimizer="adam", learning_rate=0.05, loss_type="all")
    assert train(config).loss < 0.2 * constant_l2(config.valid_data, "sepia")


def test_targets_as_tensors() -> None:
    cpu = torch.device("cpu")
    bytes_ = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    y = target_tensor(bytes_, cpu)
    assert y.shape == (2, 3, 5, 7)
    np.testing.assert_array_equal(y[1, 2].numpy(), bytes_[1, :, :, 2] / np.float32(255))
    floats = bytes_[..., 0] / np.float32(1e4)
    np.testing.assert_array_equal(target_tensor(floats, cpu)[:, 0].numpy(), floats)


def test_the_device_computes_colour_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"name": "dilate", "channels": 3}
    config = config_of(spec)
    pictures = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    from clapp.filters.on_device import batched

    trainer = Trainer.__new__(Trainer)
    trainer.device, trainer.on_device = torch.device("cpu"), batched(config.target_filter)
    found = trainer.target(pictures, None)
    expected = np.stack([apply_filter(spec, one) for one in pictures.numpy()])
    np.testing.assert_array_equal(found.numpy(), (expected / np.float32(255)).transpose(0, 3, 1, 2))


def test_a_difference_of_colours_shows_the_largest() -> None:
    difference = np.zeros((2, 2, 3), np.float32)
    difference[0, 0] = (0.01, -0.5, 0.02)
    coloured, factor = signed(difference)
    assert factor == "x2"
    assert coloured[0, 0].tolist() == [33, 102, 172]  # darker
    assert coloured[1, 1].tolist() == [255, 255, 255]


def one_plane(image: np.ndarray) -> np.ndarray:
    return image[..., 0].copy()


def divides(image: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return image[..., 0] / image[..., 0].max()  # a black picture


def sometimes_grey(image: np.ndarray) -> np.ndarray:
    return image.copy() if image.std() > 1 else image[..., 0].copy()


CALLS = count()


def counts(image: np.ndarray) -> np.ndarray:
    return np.full(image.shape[:2], next(CALLS) % 256, np.uint8)


@pytest.mark.parametrize(
    ("function", "channels", "message"),
    [
        (one_plane, 3, "returns uint8 of 1 channel; model.output_channels is 3"),
        (lambda image: image.copy(), 1, "returns uint8 of 3 channels; model.output_channels is 1"),
        (divides, 1, "values that are not finite"),
        (sometimes_grey, 3, "for one picture and uint8 of 1 channel for another"),
        (counts, 1, "returns two results for one picture"),
        (lambda image: image[..., :2], 1, r"\(16, 16\) or \(16, 16, 3\) is expected"),
        (lambda image: image / 200, 3, r"returned values from 0 to 1.275; floats in \[0, 1\]"),
        (lambda image: image > 9, 3, "returned bool"),
        (lambda image: image.tolist(), 3, "returned list, not an array"),
    ],
)
def test_what_is_returned_wrongly_is_said_before_a_start(
    function: Callable[..., Any], channels: int, message: str
) -> None:
    register_filter("wrong", gives=channels)(function)
    try:
        config = config_of("wrong")
        with pytest.raises(UserError, match=message) as caught:
            check_filter(config)
    finally:
        FILTERS.remove("wrong")
    assert "\n" not in str(caught.value)


def test_filters_of_sixteen_bits_and_of_grey_are_given_what_they_take(tmp_path: Path) -> None:
    seen = []

    @register_filter("deep", takes="grey16", gives=1)
    def deep(image: np.ndarray) -> np.ndarray:
        seen.append((image.dtype, image.shape, int(image.max())))
        return image / 65535

    try:
        white = np.full((4, 6, 3), 255, np.uint8)
        assert (resolve("deep")(white) == 1).all()
    finally:
        FILTERS.remove("deep")
    assert seen == [(np.uint16, (4, 6), 65535)]


OWN = """
import numpy as np
CALLS = 0
def warm(image, by=10):
    return np.clip(image.astype(int) + (by, 0, -by), 0, 255).astype(np.uint8)
def tires(image):
    global CALLS
    CALLS += 1
    if CALLS > 100:
        raise ValueError("enough")
    return image[..., 0].copy()
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    sets = [
        f"{section}.{key}={value}"
        for section in ("model", "train_data", "valid_data", "train")
        for key, value in {**SMALL[section]}.items()
    ]
    rest = [word for one in sets for word in ("--set", one)]
    return clapp("train", "--out", "out", *words, *rest, cwd=folder)


def test_a_function_of_colour_with_arguments_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    done = run(tmp_path, "--filter", "{name: 'own:warm', by: 40}")
    assert done.returncode == 0, done.stderr
    runner = open_runner(tmp_path / "out")
    assert runner.channels == 3
    assert runner.filter == {"name": "own:warm", "by": 40}
    done = run(tmp_path, "--filter", "own:tires", "--overwrite", "--set", "train.optimizer=adam")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: filter 'own:tires' failed: ValueError: enough"
