"""What a trained trial leaves: its folder, its picture in the dashboard, a note to read there."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import Trial

from clapp.config import Config

if TYPE_CHECKING:
    from clapp.training import TrainResult


def trial_folder(folder: Path, number: int) -> Path:
    """Where the files of a trial lie in its study's results folder."""
    return folder / "trials" / f"{number:05d}"


def keep(
    trial: Trial, folder: Path, config: Config, result: "TrainResult", values: dict[str, float]
) -> None:
    """Save a trained trial and show its preview picture in the dashboard.

    Called before Optuna finishes the trial: an artifact cannot be attached later.
    """
    from optuna_dashboard import save_note  # type: ignore[import-untyped]
    from optuna_dashboard.artifact import get_artifact_path  # type: ignore[import-untyped]

    from clapp.trialfiles import save_trained

    place = trial_folder(folder, trial.number)
    save_trained(place, config, result)
    artifacts = folder / "artifacts"
    artifacts.mkdir(exist_ok=True)
    picture = upload_artifact(
        artifact_store=FileSystemArtifactStore(str(artifacts)),
        file_path=str(place / "preview.png"),
        study_or_trial=trial,
    )
    save_note(trial, _note(trial.user_attrs, values, get_artifact_path(trial, picture)))


def _note(attributes: dict[str, Any], values: dict[str, float], picture: str) -> str:
    figures = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
    keys = "\n".join(f"- `{key}`: {value}" for key, value in attributes["config"].items())
    return (
        f"**{figures}** after {attributes['iterations']} iterations "
        f"({attributes['stop_reason']}, {attributes['seconds']:.1f} s)\n\n"
        f"Input, filter, model, difference:\n\n![preview]({picture})\n\n"
        f"Differences from the defaults:\n\n{keys}\n"
    )
