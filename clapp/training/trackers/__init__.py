"""Optional logging of trainings to Weights & Biases or TensorBoard, one run for each training.

A tracker is a class with the methods of `Tracker` and an entry in `_TRACKERS`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from loguru import logger

from clapp.errors import UserError, one_line

if TYPE_CHECKING:
    from clapp.training.trainer import Progress, Report

_TRACKERS = {
    "wandb": ("clapp.training.trackers.weights_and_biases", "WeightsAndBiases"),
    "tensorboard": ("clapp.training.trackers.event_files", "EventFiles"),
}
"""Tracker -> its module and class. The tracker has the name of the package that it needs."""


class Tracker(Protocol):
    """Logs one training after another; constructed with the folder for its files."""

    def start(self, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Begin a run; `config` maps dotted keys to values."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of the run's curves."""

    def picture(self, step: int, path: Path) -> None:
        """Add a picture."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the run and log its results."""


def check_trackers(names: Sequence[str]) -> None:
    """Check that all trackers can be used, before a training starts.

    Raises:
        UserError: an unknown name, or its package is not installed.
    """
    for name in names:
        if name not in _TRACKERS:
            raise UserError(f"--log {name}: not known; allowed: {', '.join(_TRACKERS)}")
        if find_spec(name) is None:
            raise UserError(f"--log {name}: needs {name}: pip install 'clapp[{name}]'")


class Trackers:
    """All requested trackers; one that fails is dropped with a warning and the training goes on.

    Args:
        names: values of `--log`.
        folder: each tracker makes a folder with its own name in it.
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self._folder = folder
        self._waiting = list(names)
        self._open: dict[str, Tracker] = {}
        self._step = 0

    def start(self, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Begin a run; ends the previous one."""
        self._step = 0
        for tracker in self._waiting:
            self._try(tracker, partial(self._make, tracker))
        self._waiting = []
        self._each(lambda tracker: tracker.start(name, group, config))

    def follow(self, report: "Report") -> "Report":
        """Wrap the callback of a training so that its validations are logged to the present run."""
        if not self._open:
            return report

        def followed(progress: "Progress") -> bool:
            self._step = progress.step
            values = {
                "validation/l2": progress.l2,
                "validation/l2_average": progress.ema,
                "train/loss": progress.train_loss,
            }
            self._each(lambda tracker: tracker.log(progress.step, values))
            return report(progress)

        return followed

    def picture(self, path: Path) -> None:
        """Add a picture to the present run, at the step of its last validation."""
        self._each(lambda tracker: tracker.picture(self._step, path))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the present run and log its results."""
        self._each(lambda tracker: tracker.finish(summary))

    def _make(self, name: str) -> None:
        module, kind = _TRACKERS[name]
        self._open[name] = getattr(import_module(module), kind)(self._folder)

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            self._try(name, partial(call, tracker))

    def _try(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._open.pop(name, None)
            logger.warning(f"--log {name}: given up after: {one_line(error)[:300]}")
