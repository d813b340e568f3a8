"""What a trained trial leaves: its folder, its picture in the dashboard, a note to read there."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger
from optuna.artifacts import upload_artifact
from optuna.trial import Trial

from clapp.config import Config

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

    from clapp.training import TrainResult


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
    """Save a trained trial and show its preview picture in the dashboard.

    Called before Optuna finishes the trial: an artifact cannot be attached later.
    """
    from clapp.trialfiles import save_trained

    place = trial_folder(folder, trial.number)
    save_trained(place, config, result)
    picture = _upload(trial, artifacts, place / "preview.png")
    _save_note(trial, _note(trial.user_attrs, values, picture))


def _upload(trial: Trial, artifacts: "ArtifactStore", picture: Path) -> str:
    """The picture as Markdown; a store that fails costs the picture, not the trained trial."""
    from optuna_dashboard.artifact import get_artifact_path  # type: ignore[import-untyped]

    try:
        name = upload_artifact(
            artifact_store=artifacts, file_path=str(picture), study_or_trial=trial
        )
    except OSError as error:
        logger.warning(f"trial {trial.number}: its picture could not be stored: {error}")
        return "Its picture could not be stored."
    return f"Input, filter, model, difference:\n\n![preview]({get_artifact_path(trial, name)})"


def _save_note(trial: Trial, text: str) -> None:
    # The dashboard keeps the notes of all trials with the study, and its `save_note` reads them all
    # twice to see whether this trial has one yet: 60 ms in a study of 1,000 trials.
    from optuna_dashboard._note import (  # type: ignore[import-untyped]
        note_ver_key,
        split_body,
    )

    number = trial._trial_id
    for key, value in {**split_body(text, number), note_ver_key(number): 1}.items():
        trial.storage.set_study_system_attr(trial.study._study_id, key, value)


def _note(attributes: dict[str, Any], values: dict[str, float], picture: str) -> str:
    figures = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
    keys = "\n".join(f"- `{key}`: {value}" for key, value in attributes["config"].items())
    return (
        f"**{figures}** after {attributes['iterations']} iterations "
        f"({attributes['stop_reason']}, {attributes['seconds']:.1f} s)\n\n"
        f"{picture}\n\n"
        f"Differences from the defaults:\n\n{keys}\n"
    )
