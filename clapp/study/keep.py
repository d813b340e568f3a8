"""What a trained trial leaves: its folder, its files in the dashboard, a note to read there."""

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger
from optuna.trial import Trial

from clapp.config import Config, nest
from clapp.errors import one_line
from clapp.progress import tell
from clapp.strict_yaml import dump_yaml
from clapp.study.batching import set_study_system_attrs
from clapp.study.dashboard_format import (
    artifact_path,
    markdown_table,
    trial_note,
    upload,
    uploaded_key,
)
from clapp.words import in_words

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

    from clapp.training import TrainResult

_FORMATS = {
    "loss": ("loss", "{:.6g}"),
    "params": ("parameters", "{:,}"),
    "flops": ("FLOPs", "{:,}"),
    "latency": ("latency", "{:.3g} ms"),
    "memory": ("memory", "{:,.0f} bytes"),
}


def trial_folder(folder: Path, number: int) -> Path:
    """Where the files of a trial lie in its study's results folder."""
    return folder / "trials" / f"{number:05d}"


def keep(
    trial: Trial,
    folder: Path,
    artifacts: "ArtifactStore",
    config: Config,
    result: "TrainResult",
    values: dict[str, float],
) -> None:
    """Save a trained trial and show it in the dashboard: pictures, weights and a note.

    Called before Optuna finishes the trial, which cannot be changed later.
    """
    from clapp.trialfiles import CURVE_PICTURE, PREVIEW, WEIGHTS, save_trained

    tell(f"trial {trial.number}: saving")
    place = trial_folder(folder, trial.number)
    save_trained(place, config, result)
    paths = _upload(trial, artifacts, place, (PREVIEW, CURVE_PICTURE, WEIGHTS))
    pictures = [f"![{name}]({path})" for name, path in paths.items() if name != WEIGHTS]
    note = trial_note(trial._trial_id, _note(trial.user_attrs, config, values, pictures))
    set_study_system_attrs(trial.storage, trial.study._study_id, note)


def _upload(
    trial: Trial, artifacts: "ArtifactStore", place: Path, names: tuple[str, ...]
) -> dict[str, str]:
    """Where the dashboard finds each file; a store that fails costs files, not the trial."""
    paths = {}
    try:
        for name in names:
            artifact, meta = upload(artifacts, place / name)
            trial.storage.set_trial_system_attr(trial._trial_id, uploaded_key(artifact), meta)
            paths[name] = artifact_path(trial.study._study_id, trial._trial_id, artifact)
    except OSError as error:
        logger.warning(f"trial {trial.number}: its files could not be stored: {one_line(error)}")
    return paths


def _note(
    attributes: Mapping[str, Any],
    config: Config,
    values: Mapping[str, float],
    pictures: Iterable[str],
) -> str:
    # The dashboard does not break lines that are wider than its window.
    words = "  \n".join(textwrap.wrap(in_words(config), 80))
    cells = {
        _FORMATS[name][0]: _FORMATS[name][1].format(values[name])
        for name in _FORMATS
        if name in values
    }
    cells["iterations"] = f"{attributes['iterations']:,}"
    cells["training"] = f"{attributes['seconds']:.1f} s"
    cells["ended by"] = attributes.get("stop_reason", "the pruner")
    figures = markdown_table(list(cells), [list(cells.values())])
    differences = dump_yaml(nest(attributes["config"]))
    keys = f"Differences from the defaults:\n\n```yaml\n{differences}```"
    return "\n\n".join([f"**{words}**", figures, *pictures, keys])
