"""A study twice from one seed, and a trial trained once more from its record."""

import json
import subprocess
from pathlib import Path
from typing import Any

from desk import Desk
from forked import clapp
from optuna.trial import FrozenTrial

from clapp.front.record import record_of
from clapp.training.folder import read_result
from clapp.training.provenance import commit, versions

STUDY = """
search_space:
  model.capacity: {type: int, low: 1, high: 6}
  model.activation: {type: categorical, choices: [abs, gelu, square]}
  train.learning_rate: {type: float, low: 0.002, high: 0.02, log: true}
config:
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 2}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 10, validation_interval: 5}
baselines: {small: {model.capacity: 1}}
budget: {trials: 48}
"""
TIMED = """
search_space: {model.capacity: {type: int, low: 1, high: 2}}
config:
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 2}
  train: {batch_size: 2, max_seconds: 0.3, max_iterations: 1000000, validation_interval: 1000000}
limits: {params: 2000}
budget: {trials: 1}
"""


def test_one_worker_and_one_seed_give_the_same_trials_twice(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STUDY)
    runs = []
    for results in ("first", "second"):
        desk.results = tmp_path / results
        code, output = desk.run("--workers", "1", "--results", results)
        assert code == 0, output
        runs.append([_essence(trial) for trial in desk.trials()])
    assert len(runs[0]) >= 48  # more than the random ones with which the sampler starts
    assert runs[0] == runs[1]
    _assert_provenance(desk)

    children = [t.number for t in desk.trials() if _is_heir(t)]
    for number in (7, children[-1]):
        document = _repeat(desk, number, "--out", "again", "--overwrite")
        _assert_same(desk, number, document, tmp_path / "again")


def _is_heir(trial: FrozenTrial) -> bool:
    record = record_of(trial)
    return record.loss is not None and record.parent is not None


def _assert_same(desk: Desk, number: int, document: dict[str, Any], folder: Path) -> None:
    assert document["difference"] <= document["tolerance"] == 1e-6
    assert (document["within"], document["differs"]) == (True, [])
    assert document["original"] == record_of(desk.trials()[number]).loss
    assert read_result(folder)["loss"] == document["loss"]


def test_what_a_time_limit_ended_is_repeated_to_the_same_step(tmp_path: Path) -> None:
    desk = Desk(tmp_path, TIMED)
    code, output = desk.run("--workers", "1")
    assert code == 0, output
    reference, trained = desk.trials()[:2]
    assert record_of(trained).stop_reason == "time"
    document = _repeat(desk, 1, "--out", "again")
    assert document["within"]
    assert read_result(tmp_path / "again")["iterations"] == record_of(trained).iterations

    assert record_of(reference).skipped is not None
    failed = _train(desk, 0)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.splitlines()[-1] == (
        "error: trial 0 of study mine was never trained: skipped: limit: params 2505 exceeds 2000"
    )
    assert "error: study mine has no trial 999; it has " in _train(desk, 999).stderr


def _assert_provenance(desk: Desk) -> None:
    trial = desk.trials()[0]
    provenance = record_of(trial).provenance
    assert provenance["seed"] == record_of(trial).config["train.seed"]
    assert provenance["versions"] == versions()
    assert provenance["commit"] == commit()
    assert (provenance["device"], provenance["threads"]) == ("cpu", 1)
    assert provenance["processor"]
    train, valid = (provenance["source"][name] for name in ("train", "validation"))
    assert (train["name"], train["split"], valid["split"]) == ("photos", "train", "validation")
    assert train["digest"] != valid["digest"]
    written = read_result(desk.results / "mine" / "trials" / "00000")
    assert {name: written[name] for name in provenance} == provenance


def _essence(trial: FrozenTrial) -> tuple[Any, ...]:
    return trial.state, trial.params, trial.values, record_of(trial).iterations


def _train(desk: Desk, number: int, *options: str) -> "subprocess.CompletedProcess[str]":
    words = ("train", "--trial", "mine", str(number), "--results", str(desk.results), *options)
    return clapp(*words, cwd=desk.folder)


def _repeat(desk: Desk, number: int, *options: str) -> dict[str, Any]:
    done = _train(desk, number, "--json", *options)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document
