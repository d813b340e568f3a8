"""One training of an experiment: what is to be trained, and what a finished one left in its folder.

A folder that holds weights is complete, since they are written last. So a run that was killed is
trained again, and one that was finished is not.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clapp.config import Config, Layer, compose
from clapp.errors import UserError
from clapp.filters.custom import load_plugin
from clapp.study.storage.heritage import Ancestor, inherited_weights
from clapp.training.folder import CURVE, is_model_folder, read_result, save_trained

if TYPE_CHECKING:
    from clapp.models.family import State
    from clapp.training.trainer import Report, TrainResult

    Train = Callable[[Config, Report | None, State | None], TrainResult]


@dataclass(frozen=True)
class Run:
    """A training to be done.

    Attributes:
        folder: where it is written.
        config: the configuration, with its seed, as nested sections.
        ancestor: whose weights it starts from, see `Ancestor`; None: they are drawn from the seed.
        plugins: modules that register what the configuration names.
    """

    folder: str
    config: dict[str, Any]
    ancestor: dict[str, Any] | None = None
    plugins: Sequence[str] = ()

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to its end."""
        return is_model_folder(Path(self.folder))


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    Attributes:
        loss: validation L2 at the end; None: the training diverged.
        curve: its validations as mappings, see `clapp.training.result.Point`.
    """

    seed: int
    loss: float | None
    seconds: float
    iterations: int
    stop_reason: str
    curve: Sequence[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """Without the curve, as JSON documents show it."""
        return {
            "seed": self.seed,
            "loss": self.loss,
            "seconds": self.seconds,
            "iterations": self.iterations,
            "stop_reason": self.stop_reason,
        }


def do(run: Run, train: "Train | None" = None) -> None:
    """Train a run and write its folder.

    Args:
        train: used instead of `clapp.training.trainer.train`.

    Raises:
        UserError: the pictures or the device cannot be had, or the folder cannot be written.
    """
    if train is None:
        from clapp.training.trainer import train as real_train

        train = real_train
    for plugin in run.plugins:
        load_plugin(plugin)
    config = compose([Layer(run.folder, run.config)])
    ancestor = Ancestor(**run.ancestor) if run.ancestor is not None else None
    result = train(config, None, inherited_weights(config, ancestor))
    try:
        save_trained(Path(run.folder), config, result, pictures=False)
    except OSError as error:
        raise UserError(f"{run.folder}: cannot be written: {error.strerror}") from error


def outcome_in(folder: Path, seed: int) -> Outcome:
    """What the finished training in `folder` came to.

    Raises:
        UserError: a file of it is missing or broken.
    """
    result = read_result(folder)
    try:
        curve = json.loads((folder / CURVE).read_text(encoding="utf-8"))
        loss = result["loss"]
        finite = loss is not None and math.isfinite(loss)
        return Outcome(
            seed=seed,
            loss=float(loss) if finite else None,
            seconds=float(result["seconds"]),
            iterations=int(result["iterations"]),
            stop_reason=str(result["stop_reason"]),
            curve=curve,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: is no finished training; delete it to repeat it") from error
