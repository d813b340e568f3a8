"""Weights & Biases: a run for each training, grouped by study.

Its own variables hold: WANDB_MODE=offline keeps everything in files that `wandb sync` sends later,
WANDB_PROJECT names another project than "clapp".
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb


class WeightsAndBiases:
    """See `clapp.training.trackers.Tracker`; its files lie in `folder`/wandb."""

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
            # Our output is no part of a run, and its own would get into that.
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
