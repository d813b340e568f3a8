"""`clapp train`: one configuration, trained and written to a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loguru import logger

from clapp.config import Config, differences
from clapp.preview import write_preview
from clapp.trackers import Trackers, check_trackers
from clapp.training import Progress, train
from clapp.trialfiles import PREVIEW, save_trained


def train_to_folder(
    config: Config, folder: Path, log: Sequence[str] = (), until: int | None = None
) -> dict[str, Any]:
    """Train `config`, log each validation, and write the folder that `clapp.load` reads.

    Every `train.output_log_interval` iterations the preview of the moment is written to
    FOLDER/previews, so that one can watch the network learn.

    Args:
        log: trackers that follow it too, see `clapp.trackers`.
        until: end at the first validation after so many iterations.

    Raises:
        UserError: no such tracker, the pictures cannot be had, or the device is not there.
        OSError: the folder cannot be written.
    """
    check_trackers(log)
    trackers = Trackers(log, folder)
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
            picture = folder / "previews" / f"{progress.step:06d}.png"
            write_preview(picture, progress.model, config)
            trackers.picture(picture)
        return until is not None and progress.step >= until

    trackers.start(folder.name, "clapp train", differences(config))
    result = train(config, trackers.follow(report))
    save_trained(folder, config, result)
    trackers.picture(folder / PREVIEW)
    summary = {
        "path": str(folder),
        "loss": result.loss,
        "iterations": result.iterations,
        "seconds": result.seconds,
        "stop_reason": result.stop_reason,
        "device": result.device,
    }
    trackers.finish(summary)
    return summary
