"""`clapp train`: train one configuration and write it to a folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from loguru import logger

from clapp.config import Config, differences
from clapp.errors import UserError
from clapp.filters.learned.settings import check_filter
from clapp.models.family import State
from clapp.models.fast_conv.layer import fast_convolutions
from clapp.training.folder import PREVIEW, is_model_folder, save_trained
from clapp.training.losses import loss_text, short
from clapp.training.preview import write_preview
from clapp.training.provenance import source
from clapp.training.trackers import Trackers, check_trackers
from clapp.training.trainer import Progress, train

PREVIEWS = "previews"
"""Name of the folder of previews that are written during a training."""


def train_to_folder(
    config: Config,
    folder: Path,
    log: Sequence[str] = (),
    until: int | None = None,
    overwrite: bool = False,
    weights: State | None = None,
) -> dict[str, Any]:
    """Train `config`, log each validation, and write the folder that `clapp.load` reads.

    Every `train.output_log_interval` iterations the present preview is written to FOLDER/previews,
    so that the progress can be watched.

    Args:
        log: names of trackers, see `clapp.training.trackers`.
        until: end at the first validation after this number of iterations.
        overwrite: replace the model that is in `folder`.
        weights: to start from; None: drawn from the seed.

    Raises:
        UserError: the folder cannot be written or holds something, no such tracker, the pictures
            cannot be had, the filter does not work, or the device is not there.
    """
    check_trackers(log)
    check_filter(config)
    _make_room(folder, overwrite)
    trackers = Trackers(log, folder)
    due = config.train.output_log_interval

    def report(progress: Progress) -> bool:
        nonlocal due
        logger.info(
            "iteration {:>6}  loss {}, on average {}  while training {}  {:6.1f} s",
            progress.step,
            loss_text(progress.l2),
            loss_text(progress.ema),
            short(progress.train_loss),
            progress.seconds,
        )
        if progress.step >= due:
            due += config.train.output_log_interval
            picture = folder / PREVIEWS / f"{progress.step:06d}.png"
            with fast_convolutions(progress.model):
                write_preview(picture, progress.model, config)
            trackers.picture(picture)
        return until is not None and progress.step >= until

    trackers.start(config.experiment_name or folder.name, "clapp train", differences(config))
    for data in (config.train_data, config.valid_data):
        source(data)  # cached now, because the pictures may be gone at the end
    result = train(config, trackers.follow(report), weights)
    save_trained(folder, config, result)
    trackers.picture(folder / PREVIEW)
    summary = {
        "path": str(folder),
        "loss": result.loss,
        "iterations": result.iterations,
        "seconds": result.seconds,
        "stop_reason": result.stop_reason,
        "device": result.device,
        "measured_on": result.spread.words() if result.spread is not None else None,
        **(result.spread.document() if result.spread is not None else {}),
    }
    trackers.finish(summary)
    return summary


def _make_room(folder: Path, overwrite: bool) -> None:
    """Create `folder` before the training, so that errors show early; never mix two models in it.

    Raises:
        UserError: it cannot be written, or contains files that must not be replaced.
    """
    try:
        there = any(folder.iterdir()) if folder.exists() else False
        if there and not overwrite:
            raise UserError(
                f"{folder}: is there already and not empty; choose another folder with --out, or "
                "replace the model in it with --overwrite"
            )
        if there and not is_model_folder(folder):
            raise UserError(f"{folder}: holds no model to replace; choose another folder")
        # Previews of the model that is replaced.
        shutil.rmtree(folder / PREVIEWS, ignore_errors=True)
        (folder / PREVIEWS).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
