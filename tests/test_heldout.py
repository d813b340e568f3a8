"""The test set: opened by export, report and `clapp front --test` alone, and read elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from desk import Desk
from safetensors.torch import load_file

from clapp.config import load_config
from clapp.export.folder import export_pick
from clapp.front.optimism import TESTED, read_tested
from clapp.inference.heldout import losses_on
from clapp.pool.eviction import cache_dir
from clapp.report.tested import known_front, test_front
from clapp.study.plan.existing import load_existing
from clapp.study.storage.place import study_file
from clapp.training.folder import load_trained
from clapp.training.trainer import train

ROOT = Path(__file__).parents[1]
test_front.__test__ = False  # a function of the package, not a test


def clapp(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.clapp(*words, cwd=cwd, env={**os.environ, "COLUMNS": "200", **environment})


@pytest.fixture
def small(small_study: Path, tmp_path: Path) -> Path:
    """A copy of the results of the study `small`."""
    return Path(shutil.copytree(small_study, tmp_path / "results"))


def test_a_training_never_opens_its_test_set():
    small = {"crop_size": 48, "resize_base": 64}
    config = load_config(
        {
            "train_data": {"crop_size": 32, "resize_base": 64, "min_buffer": 4},
            "valid_data": {**small, "num_images": 8},
            "test_data": {"name": "folder:/not/there"},
            "model": {"capacity": 1, "num_layers": 1},
            "train": {"max_iterations": 40, "min_iterations": 0, "validation_images": 3},
        }
    )
    before = set((cache_dir() / "validation").glob("*"))
    result = train(config)
    assert len(set((cache_dir() / "validation").glob("*")) - before) <= 1
    assert result.spread is not None
    assert result.spread.mean == pytest.approx(result.loss)
    assert (result.spread.pictures, result.spread.crops) == (6, 8)
    again = losses_on(result.model, config, config.valid_data)
    assert again.mean == pytest.approx(result.loss, rel=1e-4)
    assert again.parts == pytest.approx(result.spread.parts, rel=1e-3)


def test_front_and_export_say_what_a_loss_is_worth(small: Path) -> None:
    study, folder = load_existing("small", small), small / "small"
    (folder / TESTED).unlink(missing_ok=True)  # of the tests before
    assert known_front(study, folder) is None
    shown = clapp("front", "small", cwd=small.parent).stdout
    assert "95 %" in shown
    assert "loss: over 5 pictures for validation; intervals over pictures" in shown
    assert "test loss" not in shown
    assert not (folder / TESTED).exists()

    exported = export_pick("small", "min-loss", small)
    assert list(read_tested(folder)) == [exported.trial]
    card = (exported.path / "card.md").read_text()
    both = exported.both
    assert both is not None
    assert f"| test loss / validation loss | {both.ratio:.2f} |" in card
    assert "over 5 pictures, 95 % interval" in card
    assert "over 36 crops of 6 pictures, 95 % interval" in card
    assert "| resampled | chosen in " in card
    document = json.loads(json.dumps(exported.document()))
    assert document["test_pictures"] == 6
    assert document["stability"]["draws"] == 500
    place = folder / "trials" / f"{exported.trial:05d}"
    model, config = load_trained(place)
    assert both.test.mean == losses_on(model, config, config.test_set).mean

    shown = clapp("front", "small", "--test", cwd=small.parent).stdout
    assert "test loss: over 36 crops of 6 pictures that no training and no choice saw" in shown
    assert "test loss over validation loss: " in shown
    assert "test/valid" in shown
    measured = (folder / TESTED).read_bytes()
    found = known_front(study, folder)
    assert found is not None
    front = json.loads(clapp("front", "small", "--json", cwd=small.parent).stdout)
    for row in front["front"]:
        assert row["test_loss"] == found.models[row["trial"]].test.mean
        assert row["test_low"] < row["test_loss"] < row["test_high"]
    assert front["optimism"]["models"] >= 1
    assert test_front(study, folder).models == found.models
    assert (folder / TESTED).read_bytes() == measured  # nothing is measured twice


def test_another_test_set_of_the_study_is_measured_anew(small: Path) -> None:
    study, folder = load_existing("small", small), small / "small"
    first = test_front(study, folder)
    definition = study.user_attrs["definition"]
    definition["config"]["test_data"] = {"name": "synthetic", "num_images": 3}
    study.set_user_attr("definition", definition)
    second = test_front(load_existing("small", small), folder)
    assert {both.test.crops for both in first.models.values()} == {36}
    assert {both.test.crops for both in second.models.values()} == {3}
    shutil.rmtree(folder / "trials")
    kept = test_front(load_existing("small", small), folder)
    assert kept.models == second.models
    assert "as measured before, since here" in kept.notes[0]
    (folder / TESTED).unlink()
    gone = test_front(load_existing("small", small), folder)
    assert gone.models == {}
    assert gone.optimism is None
    assert "not measured on test pictures" in gone.notes[0]


MOVED = """
search_space: {model.activation: {type: categorical, choices: [abs, square]}}
filter: "mine:f"
config:
  train_data: {name: "folder:PICTURES", split: train, resize_base: 64, crop_size: 32, min_buffer: 2}
  valid_data: {name: "folder:PICTURES", split: validation, resize_base: 64, crop_size: 32}
  test_data: {name: "folder:PICTURES", split: test}
  model: {capacity: 1}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 5, validation_interval: 5}
budget: {trials: 2}
"""
FILTER = "import cv2\n\n\ndef f(image):\n    return 255 - cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)\n"
ELSEWHERE = "import socket\n\nsocket.gethostname = lambda: 'far-away'\n"


@pytest.fixture(scope="module")
def moved(tmp_path_factory) -> Path:
    """Results of a study run on another machine: its pictures, filter and home are not here."""
    import numpy as np
    from PIL import Image

    there, here = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("here")
    draw = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for number in range(3):
            path = there / "home" / "pictures" / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (70, 80, 3), np.uint8)).save(path)
    (there / "mine.yaml").write_text(MOVED.replace("PICTURES", str(there / "home/pictures")))
    (there / "mine.py").write_text(FILTER)
    (there / "machine").mkdir()
    (there / "machine" / "sitecustomize.py").write_text(ELSEWHERE)
    env = {
        **os.environ,
        "PYTHONPATH": f"{there / 'machine'}:{ROOT}",
        "HOME": str(there / "home"),
        "USER": "somebody",
        "LOGNAME": "somebody",
        "CLAPP_CACHE": str(there / "cache"),
        "NUMBA_CACHE_DIR": str(cache_dir() / "numba"),
    }
    for words in (
        [str(ROOT / "optimize.py"), "--study", "mine.yaml", "--workers", "1"],
        ["-m", "clapp", "front", "mine", "--test"],
        ["-m", "clapp", "export", "mine", "--pick", "min-loss"],
    ):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=there,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(there / "results", here / "results")
    shutil.rmtree(there)
    return here


def test_a_study_of_another_machine_is_read_from_folder_and_storage_alone(moved: Path) -> None:
    fresh = {"HOME": str(moved / "home"), "USER": "me", "CLAPP_CACHE": str(moved / "cache")}
    shown = clapp("front", "mine", cwd=moved, **fresh)
    assert shown.returncode == 0, shown.stderr
    assert "test loss" in shown.stdout  # as measured there
    tested = clapp("front", "mine", "--test", "--json", cwd=moved, **fresh)
    assert tested.returncode == 0, tested.stderr
    document = json.loads(tested.stdout)
    assert all(row["test_pictures"] == 3 for row in document["front"])

    exported = clapp("export", "mine", "--pick", "min-loss", "--out", "model", cwd=moved, **fresh)
    assert exported.returncode == 0, exported.stderr
    assert "not measured here: " in exported.stdout
    card = (moved / "model" / "card.md").read_text()
    assert "| test loss (mean L2) | " in card
    assert "over 3 pictures" in card
    there = moved / "results" / "mine" / "export" / "min-loss"
    assert (there / "preview.png").is_file()
    assert "preview.png" not in card  # no trial has drawn one, and here it cannot be
    assert (moved / "model" / "config.yaml").read_bytes() == (there / "config.yaml").read_bytes()
    ours, theirs = (load_file(one / "model.safetensors") for one in (moved / "model", there))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)

    report = clapp("report", "mine", cwd=moved, **fresh)
    assert report.returncode == 0, report.stderr
    page = (moved / "results" / "mine" / "report.html").read_text()
    assert "far-away" in page
    assert "as measured before, since here" in page
    listed = clapp("studies", "--json", cwd=moved, **fresh)
    assert [one["study"] for one in json.loads(listed.stdout)["studies"]] == ["mine"]


def test_what_needs_the_pictures_says_so_in_one_line(moved: Path) -> None:
    for words in (["--format", "onnx-int8"], ["--format", "c-int8"]):
        done = clapp("export", "mine", *words, "--out", "int8", cwd=moved)
        assert done.returncode == 2
        said = [line for line in done.stderr.splitlines() if line != "reading the study"]
        assert len(said) == 1
        assert "pictures: there is no such folder" in said[0]
    assert not (moved / "int8").exists()
    (moved / "results" / "mine" / TESTED).rename(moved / "kept.json")
    try:
        done = clapp("export", "mine", "--pick", "min-loss", "--out", "bare", cwd=moved)
        assert done.returncode == 0, done.stderr
        card = (moved / "bare" / "card.md").read_text()
        assert "by the study |" in card
        assert "test loss (mean L2)" not in card
    finally:
        (moved / "kept.json").rename(moved / "results" / "mine" / TESTED)


RUNNING = """
search_space:
  model.capacity: {type: int, low: 1, high: 3}
  train.learning_rate: {type: float, low: 0.002, high: 0.02, log: true}
baselines: {}
config:
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 5}
  model: {num_layers: 1}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 60, validation_interval: 20}
budget: {trials: 4000}
"""


def test_a_model_is_exported_while_the_study_runs(tmp_path: Path) -> None:
    import signal
    import time

    desk = Desk(tmp_path, RUNNING)
    process = desk.start("--workers", "1")
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            if study_file(desk.study) is not None and _finished(desk):
                break
            time.sleep(0.5)
        before = _finished(desk)
        found = []
        for rule in ("knee", "min-loss", "loss<=1, min params"):
            done = clapp("export", "mine", "--pick", rule, "--json", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            found.append(json.loads(done.stdout))
        assert process.poll() is None
        assert before >= 1
        for one in found:
            assert one["test_pictures"] == 6
            assert (tmp_path / one["path"] / "model.onnx").is_file()
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert _finished(desk) > before  # the study went on meanwhile


def _finished(desk: Desk) -> int:
    from clapp.errors import UserError

    try:
        return sum(trial.state.name == "COMPLETE" for trial in desk.trials())
    except UserError:  # it has just been created
        return 0
