"""Weights & Biases: a run for each training, grouped by study.

Its environment variables apply: WANDB_MODE=offline keeps everything in files that `wandb sync`
sends later; WANDB_PROJECT names a project other than "clapp".
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb


class WeightsAndBiases:
    """A `clapp.training.trackers.Tracker` with its files in `folder`/wandb."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run: Any = None

    def start(self, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Begin a run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "clapp"),
            name=name,
            group=group,
            config=dict(config),
            dir=self._folder,
            # Do not log our terminal output, and print nothing into it.
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        self._run.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        """Add a picture."""
        self._run.log({"preview": wandb.Image(str(path))}, step=step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the run."""
        self._run.summary.update(dict(summary))
        self._run.finish()
