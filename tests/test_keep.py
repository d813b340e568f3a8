"""What a trial leaves, read back from its folder and as the dashboard reads it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import torch
from loguru import logger
from optuna.storages import BaseStorage
from optuna_dashboard import get_note
from optuna_dashboard.artifact._backend import list_trial_artifacts

import clapp
from clapp.config import Config, load_config
from clapp.model import build_model
from clapp.study.artifacts import open_artifacts
from clapp.study.keep import keep, trial_folder
from clapp.study.storage import default_url, open_storage
from clapp.training import Point, TrainResult

CONFIG = load_config(
    {
        "model": {"capacity": 2},
        "valid_data": {"resize_base": 64, "crop_size": 48, "num_images": 3},
    }
)
VALUES = {"params": 195, "flops": 18_000_000, "loss": 0.0123456789}
FACTS = {"config": {"model.capacity": 2}, "iterations": 1200, "seconds": 3.21}


@pytest.fixture
def storage(tmp_path: Path) -> BaseStorage:
    return open_storage(default_url(tmp_path))


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is logged meanwhile."""
    messages: list[str] = []
    sink = logger.add(messages.append, format="{message}")
    yield messages
    logger.remove(sink)


def trained(config: Config) -> TrainResult:
    torch.manual_seed(0)
    curve = [Point(100 * n, n, 0.1, 0.05 / n, 0.05 / n, 0.01) for n in range(1, 13)]
    model = build_model(config.model).eval()
    return TrainResult(
        model, 0.0123, 0.01, "plateau", 1200, 9600, 3.21, {}, curve, "cpu", "adam", 1
    )


def kept(storage: BaseStorage, folder: Path, **facts: object) -> tuple[str, list[str]]:
    """The note and the files of a trial that is kept in `folder` and then finished."""
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    for name, value in {**FACTS, **facts}.items():
        trial.set_user_attr(name, value)
    store = open_artifacts(None, folder)
    if not facts:
        shutil.rmtree(folder / "artifacts")  # while the study runs
    keep(trial, folder, store, CONFIG, trained(CONFIG), VALUES)
    study.tell(trial, 0.0123)
    (done,) = study.get_trials()
    attributes = storage.get_study_system_attrs(study._study_id)
    files = list_trial_artifacts(attributes, done.system_attrs, done)
    return get_note(trial), sorted(file["filename"] for file in files)


def test_a_trial_has_files_and_a_note_in_words(storage: BaseStorage, tmp_path: Path) -> None:
    note, files = kept(storage, tmp_path, stop_reason="plateau")
    assert files == ["curve.svg", "model.safetensors", "preview.png"]
    words, figures, preview, curve, keys = note.split("\n\n", 4)
    assert words.replace("  \n", " ").startswith("**4 blocks of 2 channels, 3x3, GELU, ")
    assert max(map(len, words.split("\n"))) < 90
    assert figures.split("\n")[0] == (
        "| loss | parameters | FLOPs | iterations | training | ended by |"
    )
    assert figures.split("\n")[2] == "| 0.0123457 | 195 | 18,000,000 | 1,200 | 3.2 s | plateau |"
    assert preview.startswith("![preview.png](/artifacts/1/1/")
    assert curve.startswith("![curve.svg](/artifacts/1/1/")
    assert keys == "Differences from the defaults:\n\n```yaml\nmodel:\n  capacity: 2\n```"
    image = torch.rand(1, 3, 32, 32)
    loaded = clapp.load(trial_folder(tmp_path, 0))
    assert torch.equal(loaded(image), trained(CONFIG).model(image))


def test_a_trial_stopped_early_is_kept_as_well(storage: BaseStorage, tmp_path: Path) -> None:
    note, files = kept(storage, tmp_path, stopped={"step": 1200})
    assert "| 1,200 | 3.2 s | the pruner |" in note
    assert len(files) == 3


def test_a_store_that_fails_costs_files_and_not_the_trial(
    storage: BaseStorage, tmp_path: Path, warnings: list[str]
) -> None:
    note, files = kept(storage, tmp_path)
    assert files == []
    assert "![" not in note
    assert "| 0.0123457 | 195 |" in note
    assert (trial_folder(tmp_path, 0) / "preview.png").is_file()
    (message,) = warnings
    assert message.startswith("trial 0: its files could not be stored: ")
