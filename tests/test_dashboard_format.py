"""What is written is read back by the dashboard's own functions."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import get_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard.artifact import get_artifact_path
from optuna_dashboard.artifact._backend import list_trial_artifacts

from clapp.study import dashboard_format as shown


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study()


def attributes(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


def store(study: optuna.Study, values: dict[str, Any]) -> None:
    for key, value in values.items():
        study._storage.set_study_system_attr(study._study_id, key, value)


@pytest.mark.parametrize("length", [0, 1, shown.PIECE, shown.PIECE + 1, 3 * shown.PIECE])
def test_a_note_of_a_trial(study: optuna.Study, length: int) -> None:
    trial = study.ask()
    text = ("**bold** " * 1000)[:length]
    store(study, shown.trial_note(trial._trial_id, text))
    assert get_note(trial) == text


def test_a_note_of_the_study_is_replaced_by_a_shorter_one(study: optuna.Study) -> None:
    for version, text in enumerate(["a" * 5000, "b" * 2100, "c"], start=1):
        store(study, shown.study_note(text, attributes(study)))
        assert get_note(study) == text == shown.read_study_note(attributes(study))
        assert attributes(study)["dashboard:note_ver"] == version


def test_a_graph_is_replaced_by_a_smaller_one(study: optuna.Study) -> None:
    for size in (2000, 3):
        figure = {"data": [{"x": list(range(size))}], "layout": {"title": {"text": "x"}}}
        store(study, shown.graph("front", figure, attributes(study)))
        found = get_plotly_graph_objects(attributes(study))
        assert {name: json.loads(text) for name, text in found.items()} == {"front": figure}


def test_files_of_a_running_and_of_a_finished_trial(study: optuna.Study, tmp_path: Path) -> None:
    files = FileSystemArtifactStore(str(tmp_path))
    trial = study.ask()
    (tmp_path / "curve.svg").write_text("<svg/>")
    artifact, meta = shown.upload(files, tmp_path / "curve.svg")
    trial.storage.set_trial_system_attr(trial._trial_id, shown.uploaded_key(artifact), meta)
    assert shown.artifact_path(study._study_id, trial._trial_id, artifact) == get_artifact_path(
        trial, artifact
    )
    study.tell(trial, 1.0)
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    late, meta = shown.upload(files, tmp_path / "model.onnx")
    store(study, {shown.attached_key(trial._trial_id, late): meta})

    (frozen,) = study.trials
    listed = list_trial_artifacts(attributes(study), frozen.system_attrs, frozen)
    assert [(a["filename"], a["mimetype"]) for a in listed] == [
        ("model.onnx", "application/octet-stream"),
        ("curve.svg", "image/svg+xml"),
    ]
    contents = [(tmp_path / a["artifact_id"]).read_bytes() for a in listed]
    assert contents == [b"onnx", b"<svg/>"]
    assert shown.attached_names(trial._trial_id, attributes(study)) == {"model.onnx"}
    assert shown.attached_names(trial._trial_id + 1, attributes(study)) == set()


def test_a_store_that_fails_leaves_no_trace(study: optuna.Study, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    gone = FileSystemArtifactStore(str(tmp_path / "gone"))
    with pytest.raises(OSError, match="gone"):
        shown.upload(gone, tmp_path / "a.txt")
