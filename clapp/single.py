"""`clapp train`: one configuration, trained and written to a folder."""

from pathlib import Path
from typing import Any

from loguru import logger

from clapp.config import Config
from clapp.preview import write_preview
from clapp.training import Progress, train
from clapp.trialfiles import save_trained


def train_to_folder(config: Config, folder: Path) -> dict[str, Any]:
    """Train `config`, log each validation, and write the folder that `clapp.load` reads.

    Every `train.output_log_interval` iterations the preview of the moment is written to
    FOLDER/previews, so that one can watch the network learn.

    Raises:
        UserError: the pictures cannot be had, or the device is not there.
        OSError: the folder cannot be written.
    """
    (folder / "previews").mkdir(parents=True, exist_ok=True)  # fails now, not after the training
    due = config.train.output_log_interval

    def report(progress: Progress) -> bool:
        nonlocal due
        logger.info(
            "iteration {:>6}  loss {:.5f}  validation L2 {:.6f}  average {:.6f}  {:6.1f} s",
            progress.step,
            progress.train_loss,
            progress.l2,
            progress.ema,
            progress.seconds,
        )
        if progress.step >= due:
            due += config.train.output_log_interval
            write_preview(folder / "previews" / f"{progress.step:06d}.png", progress.model, config)
        return False

    result = train(config, report)
    save_trained(folder, config, result)
    return {
        "path": str(folder),
        "loss": result.loss,
        "iterations": result.iterations,
        "seconds": result.seconds,
        "stop_reason": result.stop_reason,
    }
