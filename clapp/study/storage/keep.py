"""Where the files of a trained trial lie, and how they get there."""

from pathlib import Path
from typing import TYPE_CHECKING

from clapp.config import Config
from clapp.system.progress import tell

if TYPE_CHECKING:
    from clapp.training.trainer import TrainResult


def trial_folder(folder: Path, number: int) -> Path:
    """Where the files of a trial lie in its study's results folder."""
    return folder / "trials" / f"{number:05d}"


def keep(folder: Path, number: int, config: Config, result: "TrainResult") -> None:
    """Save a trained trial: weights, configuration, curve, result.

    No picture is drawn: the dashboard and the report make those that somebody looks at.
    """
    from clapp.training.folder import save_trained

    tell(f"trial {number}: saving")
    save_trained(trial_folder(folder, number), config, result, pictures=False)
