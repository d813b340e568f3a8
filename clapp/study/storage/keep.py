"""The folder of a trained trial, and saving its files."""

from pathlib import Path
from typing import TYPE_CHECKING

from clapp.config import Config
from clapp.system.progress import tell

if TYPE_CHECKING:
    from clapp.training.trainer import TrainResult


def trial_folder(folder: Path, number: int) -> Path:
    """The folder of a trial in its study's results."""
    return folder / "trials" / f"{number:05d}"


def keep(folder: Path, number: int, config: Config, result: "TrainResult") -> None:
    """Save a trained trial: weights, configuration, curve, result.

    No pictures are drawn here: dashboard and report draw those that are viewed.
    """
    from clapp.training.folder import save_trained

    tell(f"trial {number}: saving")
    save_trained(trial_folder(folder, number), config, result, pictures=False)
