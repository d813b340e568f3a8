"""Progress reports of a training, and its result."""

from collections.abc import Callable
from dataclasses import dataclass

from clapp.config import Config
from clapp.models.build import Network
from clapp.training.losses.spread import Spread


@dataclass(frozen=True)
class Point:
    """One validation: steps and seconds so far, mean training loss since the one before."""

    step: int
    seconds: float
    train_loss: float
    l2: float
    ema: float
    learning_rate: float


@dataclass(frozen=True)
class Progress:
    """The argument of the callback `report` after a validation; `model` is the network in
    training."""

    step: int
    stage: int
    seconds: float
    train_loss: float
    ema: float
    l2: float
    model: Network


Report = Callable[[Progress], bool]


@dataclass(frozen=True)
class TrainResult:
    """A trained network and the record of its training.

    Attributes:
        model: on the CPU, in evaluation mode.
        loss: mean squared error over the whole validation set at the end, of outputs that are not
            clamped against targets in [0, 1]; NaN when the training diverged.
        ema: moving average of the validations' L2 in the last stage.
        stop_reason: what ended the last stage: threshold, plateau, iterations, time, nan, stopped.
        iterations: optimiser steps; of Levenberg-Marquardt, each counts as 20.
        images: crops seen.
        seconds: from the building of the network to the last validation, of all pictures.
        timings: seconds spent on "data" (crops and their targets), "decode" (waiting for pictures
            that are being decoded), "step" and "validate".
        curve: every validation.
        device: where it was trained.
        optimizer: what changed the weights, `auto` resolved.
        starts: of the first weights that were tried, how many left the plateau of predicting the
            mean by the first comparison.
        config: what was trained.
        spread: how many pictures `loss` is a mean over, and where it may lie over others.
    """

    model: Network
    loss: float
    ema: float
    stop_reason: str
    iterations: int
    images: int
    seconds: float
    timings: dict[str, float]
    curve: list[Point]
    device: str
    optimizer: str
    starts: int
    config: Config | None = None
    spread: Spread | None = None
