"""ONNX files of a front's models, shown with their trials in the dashboard.

An export takes seconds, so workers do not make them: a process beside the dashboard does, whose
pages they would hold up in the same one.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from clapp.errors import UserError, one_line
from clapp.front import front_of
from clapp.study.artifacts import open_artifacts
from clapp.study.dashboard_format import attached_key, attached_names, upload
from clapp.study.keep import trial_folder
from clapp.study.storage import load_existing

if TYPE_CHECKING:
    from optuna import Study
    from optuna.artifacts._protocol import ArtifactStore

NAME = "model.onnx"
LOOK_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """Where a study is; see `clapp.dashboard.serve`."""

    study: str
    results: Path
    storage: str | None
    artifacts: str | None


@contextmanager
def attaching(place: Place) -> Iterator[None]:
    """While the block runs, a process attaches ONNX files to the trials that are on the front."""
    # Spawned, for a fork would inherit the dashboard's connections to the storage.
    process = multiprocessing.get_context("spawn").Process(
        target=_attach_until_the_end, args=(place,), daemon=True
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the dashboard's; inherited
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _attach_until_the_end(place: Place) -> None:
    from clapp.console import log_to_stderr
    from clapp.process import prepare_process

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # leaves no temporary folder behind
    os.dup2(2, 1)  # whoever reads the dashboard's output expects nothing from here
    os.nice(10)
    log_to_stderr()
    prepare_process(threads=1)
    parent = multiprocessing.parent_process()
    assert parent is not None  # it is spawned
    loaded = load_existing(place.study, place.results, place.storage)
    folder = place.results / loaded.study_name
    store = open_artifacts(place.artifacts, folder)
    missing: set[int] = set()
    while parent.is_alive():
        attach(loaded, folder, store, missing)
        parent.join(LOOK_SECONDS)


def attach(study: "Study", folder: Path, store: "ArtifactStore", missing: set[int]) -> None:
    """Attach an ONNX file to each trial of the front that has none.

    Args:
        folder: the study's results folder.
        missing: trials not to be tried again; those that fail now are added.
    """
    trials = study.get_trials(deepcopy=False)
    attributes = study._storage.get_study_system_attrs(study._study_id)
    for one in front_of(study):
        number = trials[one.trial]._trial_id
        if one.trial in missing or NAME in attached_names(number, attributes):
            continue
        try:
            artifact, meta = _exported(trial_folder(folder, one.trial), store)
            key = attached_key(number, artifact)
            study._storage.set_study_system_attr(study._study_id, key, meta)
        except (UserError, OSError) as error:
            missing.add(one.trial)
            logger.warning(f"trial {one.trial} gets no ONNX file: {one_line(error)}")


def _exported(source: Path, store: "ArtifactStore") -> tuple[str, str]:
    from clapp.onnx_export import write_onnx
    from clapp.trialfiles import load_trained

    model, _ = load_trained(source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        write_onnx(model, path, {})
        return upload(store, path)
