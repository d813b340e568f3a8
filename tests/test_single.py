"""`clapp train` writes into a folder of its own and never over something else."""

import re
from pathlib import Path

import pytest
from loguru import logger

from clapp.commands.train import train_to_folder
from clapp.config import Config, load_config, refuse_repetitions
from clapp.errors import ConfigError, UserError
from clapp.training.folder import load_trained

TINY = [
    "train_data={resize_base: 32, crop_size: 16, min_buffer: 2}",
    "valid_data={num_images: 2, resize_base: 32, crop_size: 24}",
    "train={batch_size: 2, max_iterations: 4, validation_interval: 2, optimizer: adam}",
]


def tiny(*more: str) -> Config:
    return load_config(None, [*TINY, "model={capacity: 1, num_layers: 1}", *more])


def test_a_model_is_replaced_only_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "model"
    lines: list[str] = []
    listener = logger.add(lines.append, format="{message}")
    train_to_folder(tiny("train.output_log_interval=2"), folder)
    logger.remove(listener)
    number = r"[\d.]+"
    loss = rf"{number} \({number} dB\)"
    pattern = rf"iteration +2  loss {loss}, on average {loss}  while training {number} +{number} s"
    assert any(re.fullmatch(pattern, line.strip()) for line in lines), lines
    assert sorted(path.name for path in (folder / "previews").iterdir()) == [
        "000002.png",
        "000004.png",
    ]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"model: is there already and not empty; .*--overwrite"):
        train_to_folder(tiny(), folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    train_to_folder(tiny("model.capacity=2"), folder, overwrite=True)
    assert load_trained(folder)[1].model.capacity == 2
    assert not list((folder / "previews").iterdir())


def test_what_is_no_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds no model to replace"):
        train_to_folder(tiny(), tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("place", ["file/x", "file", "n" * 300, "/proc/x"])
def test_folders_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: "):
        train_to_folder(tiny(), tmp_path / place)


def test_a_wrong_filter_is_found_before_the_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "halves.py").write_text("def f(image): return image[::2, :, 0].copy()\n")
    with pytest.raises(UserError, match=r"returned uint8 \(8, 16\) for a picture of \(16, 16, 3\)"):
        train_to_folder(tiny("train_data.target_filter=halves:f"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_repetitions_are_refused_but_the_references_file_is_taken() -> None:
    refuse_repetitions(load_config(Path(__file__).parent / "golden" / "reference-default.yaml"))
    for text in ("num_runs=3", "num_parallel_runs=2"):
        with pytest.raises(ConfigError, match="has no effect: one network is trained"):
            refuse_repetitions(tiny(text))
