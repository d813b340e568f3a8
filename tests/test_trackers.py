"""Trials and trainings followed by the real packages, their files read back."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2 as records

from clapp.config import Config, load_config
from clapp.errors import UserError
from clapp.models.build import build_model
from clapp.study.plan import definition
from clapp.study.plan.plan import make_plan
from clapp.study.preparing import prepare
from clapp.study.running.job import Job
from clapp.study.running.stop import Stop
from clapp.study.running.worker import run
from clapp.study.storage.storage import default_url, open_storage
from clapp.training.trackers import Trackers, check_trackers
from clapp.training.trainer import Point, Progress, TrainResult

# set_metric_names is experimental in Optuna.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

STUDY = """
search_space: {model.capacity: {type: int, low: 1, high: 6}}
config: {valid_data: {resize_base: 64, crop_size: 48, num_images: 3}}
baselines: {}
budget: {trials: 2}
"""
CURVE = ((100, 0.04), (200, 0.01))


def untrained(config: Config, report: Any, _weights: Any = None) -> TrainResult:
    """In place of a training; three channels fail."""
    torch.manual_seed(0)
    model = build_model(config.model).eval()
    for step, l2 in CURVE:
        report(Progress(step, 0, step / 100, 2 * l2, l2, l2, model))
    if config.model.capacity == 3:
        raise RuntimeError("no such luck")
    curve = [Point(step, step / 100, 2 * l2, l2, l2, 0.01) for step, l2 in CURVE]
    return TrainResult(model, 0.01, 0.01, "iterations", 200, 1600, 2.0, {}, curve, "cpu", "adam", 1)


def follow(folder: Path, *log: str) -> Path:
    """A study of two trials and one that fails between them; its results folder."""
    (folder / "edges.yaml").write_text(STUDY)
    plan = make_plan(str(folder / "edges.yaml"))
    place = folder / "edges"
    prepare.make_folder(place)
    study = prepare.create_study(plan, open_storage(default_url(place)), place / definition.LOCKS)
    for capacity in (1, 3, 2):
        study.enqueue_trial({"model.capacity": capacity})
    url = default_url(place)
    job = Job("edges", plan.document(), url, str(place), None, None, None, 0, "", log=log)
    assert run(job, lambda *_, **__: None, Stop(), untrained) == "the budget is spent"
    optuna.logging.set_verbosity(optuna.logging.INFO)
    return place


def test_tensorboard_has_a_run_for_each_trial(tmp_path: Path) -> None:
    place = follow(tmp_path, "tensorboard")
    runs = sorted((place / "tensorboard").iterdir())
    assert [path.name for path in runs] == ["trial-00000", "trial-00001", "trial-00002"]
    first, failed, _ = [EventAccumulator(str(path), {"images": 0}).Reload() for path in runs]
    for one in (first, failed):
        for name, factor in (("validation/l2", 1), ("train/loss", 2)):
            points = [(event.step, event.value) for event in one.Scalars(name)]
            assert points == [(step, pytest.approx(factor * l2)) for step, l2 in CURVE]
    (picture,) = first.Images("preview")
    with Image.open(place / "trials" / "00000" / "preview.png") as preview:
        assert (picture.step, picture.width, picture.height) == (200, *preview.size)
    assert failed.Tags()["images"] == []
    assert b"model.capacity: 1" in text(first, "configuration")
    assert b"group: edges" in text(first, "configuration")
    assert b"outcome: complete\nloss: 0.01\nparams: " in text(first, "result")
    assert b"no such luck" in text(failed, "result")


def text(events: EventAccumulator, name: str) -> bytes:
    (event,) = events.Tensors(f"{name}/text_summary")
    return event.tensor_proto.string_val[0]


def test_wandb_offline_groups_its_runs_by_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    place = follow(tmp_path, "wandb")
    folders = list((place / "wandb").glob("offline-run-*"))
    runs = sorted((read(path) for path in folders), key=lambda found: found[0].display_name)
    names = [one.display_name for one, _, _ in runs]
    assert names == ["trial-00000", "trial-00001", "trial-00002"]
    assert {(one.project, one.run_group) for one, _, _ in runs} == {("clapp", "edges")}
    one, history, summary = runs[0]
    config = {item.key: json.loads(item.value_json) for item in one.config.update}
    assert config["model.capacity"] == 1
    assert [(row["_step"], row["validation/l2"]) for row in history] == list(CURVE)
    assert (summary["outcome"], summary["loss"]) == ("complete", 0.01)
    assert runs[1][2]["outcome"] == "no such luck"
    (folder,) = [path for path in folders if path.name.endswith(one.run_id)]
    pictures = list(folder.glob("files/media/images/preview_200_*.png"))
    preview = (place / "trials" / "00000" / "preview.png").read_bytes()
    assert [path.read_bytes() for path in pictures] == [preview]


def read(path: Path) -> tuple[Any, list[dict[str, Any]], dict[str, Any]]:
    """A run's description, its points and its summary, from the folder of an offline run."""
    found, history, summary = None, [], {}
    for record in ended(path):
        match record.WhichOneof("record_type"):
            case "run":
                found = record.run
            case "history":
                history.append(_values(record.history.item))
            case "summary":
                summary |= _values(record.summary.update)
    return found, history, summary


def ended(path: Path) -> list[Any]:
    """All records of an offline run; wandb's own process may still be writing them."""
    (file,) = path.glob("*.wandb")
    deadline = time.monotonic() + 60
    while True:
        found = [records.Record.FromString(data) for data in logged(file.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        assert time.monotonic() < deadline, [r.WhichOneof("record_type") for r in found]
        time.sleep(0.1)


def logged(data: bytes) -> Iterator[bytes]:
    """The entries of a file in LevelDB's log format, after a header of its own of 7 bytes."""
    block, head, position, entry = 32768, 7, 7, b""
    while position + head <= len(data):
        left = block - position % block
        if left < head:  # the rest of a block that no head fits into
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        if position + head + length > len(data):
            return  # it is still being written
        entry += data[position + head : position + head + length]
        position += head + length
        if kind in (1, 4):  # whole, or the last piece of one
            yield entry
            entry = b""


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_a_tracker_that_fails_is_dropped_and_no_trial_with_it(tmp_path: Path) -> None:
    (tmp_path / "edges").mkdir()
    (tmp_path / "edges" / "tensorboard").touch()  # a file where a folder should be
    place = follow(tmp_path, "tensorboard")
    assert (place / "trials" / "00002" / "model.safetensors").is_file()
    trackers = Trackers(["tensorboard"], place)
    trackers.start("a", "b", {})
    report = lambda _: False  # noqa: E731
    assert trackers.follow(report) is report
    trackers.picture(tmp_path / "missing.png")
    trackers.finish({})


def test_without_being_asked_nothing_is_followed(tmp_path: Path) -> None:
    place = follow(tmp_path)
    assert {path.name for path in place.iterdir()} & {"wandb", "tensorboard"} == set()


def test_a_single_training_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clapp.commands import train as single

    monkeypatch.setattr(single, "train", untrained)
    small = {"valid_data": {"resize_base": 64, "crop_size": 48, "num_images": 3}}
    config = load_config({**small, "train": {"output_log_interval": 200}})
    single.train_to_folder(config, tmp_path / "mine", ["tensorboard"])
    events = EventAccumulator(str(tmp_path / "mine/tensorboard/mine"), {"images": 0}).Reload()
    assert len(events.Scalars("validation/l2")) == 2
    assert len(events.Images("preview")) == 2  # of iteration 200, and at the end


def test_what_cannot_be_followed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--log mlflow: not known; allowed: wandb, tensorboard"):
        check_trackers(["mlflow"])
    monkeypatch.setattr("clapp.training.trackers.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"--log wandb: needs wandb: pip install 'clapp\[wandb\]'"):
        check_trackers(["wandb"])
