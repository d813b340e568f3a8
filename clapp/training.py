"""Training: a validated configuration in, a trained network and how it went out.

The data flow of one step stands in `Trainer.step`; `Trainer.stage` repeats it at one resolution
until a rule ends it, and `train` goes through the resolutions.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clapp.adam import Adam
from clapp.batches import Batches
from clapp.config import Config
from clapp.device import resolve_device
from clapp.errors import ConfigError
from clapp.filters import resolve
from clapp.filters_torch import batched
from clapp.losses import Loss, loss
from clapp.model import FilterNet, min_size
from clapp.pool import Pool, validation_set
from clapp.schedule import learning_rate
from clapp.stopping import StoppingRule
from clapp.tensors import Pictures, chunks, input_tensor, target_tensor

# These end the whole training, the others only a stage.
_FINAL = {"time", "nan", "stopped"}


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
    """What `report` is told after a validation; `model` is the network in training."""

    step: int
    stage: int
    seconds: float
    train_loss: float
    ema: float
    l2: float
    model: FilterNet


Report = Callable[[Progress], bool]


@dataclass(frozen=True)
class TrainResult:
    """A trained network and how it got there.

    Attributes:
        model: on the CPU, in evaluation mode.
        loss: mean squared error over the whole validation set at the end, of outputs that are not
            clamped against targets in [0, 1]; NaN when the training diverged.
        ema: moving average of the validations' L2 in the last stage.
        stop_reason: what ended the last stage: threshold, plateau, iterations, time, nan, stopped.
        iterations: optimiser steps.
        images: crops seen.
        seconds: from the first batch to the last validation.
        timings: seconds spent on "data" (crops and their targets), "decode" (waiting for pictures
            that are being decoded), "step" and "validate".
        curve: every validation.
        device: where it was trained.
    """

    model: FilterNet
    loss: float
    ema: float
    stop_reason: str
    iterations: int
    images: int
    seconds: float
    timings: dict[str, float]
    curve: list[Point]
    device: str


def train(config: Config, report: Report | None = None) -> TrainResult:
    """Train a network as `config` says; on the CPU the result follows from the configuration alone.

    Args:
        config: a complete configuration.
        report: called after every validation; returning True ends the training ("stopped").

    Raises:
        ConfigError: the network does not fit the pictures.
        UserError: the pictures or the device cannot be had.
        FeederError: the process that supplies the pictures died.
    """
    check(config)
    device = resolve_device(config.train.device)
    forked = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(forked),
        Pool.open(config.train_data, config.num_resolutions) as pool,
    ):
        torch.manual_seed(config.train.seed)
        return Trainer(config, pool, device, report).run()


def check(config: Config) -> None:
    """Raise ConfigError unless the pictures are large enough for the network."""
    model = config.model
    for key, crop in (
        ("train_data.crop_size", config.train_data.crop_size),
        ("valid_data.crop_size", config.valid_data.crop_size),
    ):
        if crop < min_size(model):
            raise ConfigError(f"{key} {crop}: this network needs at least {min_size(model)} pixels")


class Trainer:
    """One training: the network, its optimiser, and the record of what happened."""

    def __init__(
        self, config: Config, pool: Pool, device: torch.device, report: Report | None
    ) -> None:
        self.config, self.pool, self.device = config, pool, device
        self.report: Report = report or (lambda _: False)
        self.on_device = batched(config.target_filter) if device.type == "cuda" else None
        self.valid = validation_set(config.valid_data, config.target_filter)
        self.model = FilterNet(config.model).to(device)
        self.widest = config.model.widest
        self.loss = loss(config.train.loss_type)
        self.optimiser = Adam(self.model.parameters())
        self.rate = 0.0
        self.timings = {"data": 0.0, "step": 0.0, "validate": 0.0}
        self.curve: list[Point] = []
        self.iterations = self.images = self.validations = 0
        self.start = time.perf_counter()

    def run(self) -> TrainResult:
        """Go through the resolutions."""
        for stage in range(self.config.num_resolutions):
            reason = self.stage(stage)
            if reason in _FINAL:
                break
        end = self.curve[-1]
        loss = math.nan if reason == "nan" else self.final_l2(self.model, end)
        self.optimiser.release()
        return TrainResult(
            model=self.model.to("cpu").eval(),
            loss=loss,
            ema=end.ema,
            stop_reason=reason,
            iterations=self.iterations,
            images=self.images,
            seconds=end.seconds,
            timings=self.times(),
            curve=self.curve,
            device=str(self.device),
        )

    def stage(self, stage: int) -> str:
        """Train at one resolution until something ends it, and say what."""
        train, rule = self.config.train, StoppingRule(self.config.train)
        losses: list[Tensor] = []  # since the last validation; read only there, as reading waits
        with closing(self.batches(stage).prefetch(0, train.num_workers)) as stream:
            for step in range(1, train.max_iterations + 1):
                with self.timed("data"):
                    images, targets = next(stream)
                rate = learning_rate(step - 1, train)
                with self.timed("step"):
                    losses.append(self.step(images, targets, rate))
                last = step == train.max_iterations or self.out_of_time()
                if last or step % train.validation_interval == 0:
                    with self.timed("step"):
                        mean = torch.stack(losses).mean(0).cpu()
                    losses.clear()
                    reason = self.review(stage, step, rule, mean)
                    if reason is not None:
                        return reason
        return "iterations"

    def batches(self, stage: int) -> Batches:
        """The training batches of a stage; crop and base double, and the batch is halved."""
        data, train, factor = self.config.train_data, self.config.train, 2**stage
        return Batches(
            self.pool,
            resolve(self.config.target_filter) if self.on_device is None else None,
            batch_size=train.batch_size // factor,
            crop=data.crop_size * factor,
            base=data.resize_base * factor,
            seed=train.seed if train.batch_seed is None else train.batch_seed,
        )

    def step(self, images: Pictures, targets: Pictures | None, rate: float) -> Tensor:
        """One optimiser step on images (B, S, S, 3) and targets (B, S, S); returns the loss.

        Without targets, which the device can compute by itself, it does.

        Chunks of the batch accumulate their gradients, each weighted by its share of the pictures:
        the same mathematics, because no layer mixes pictures.
        """
        self.optimiser.zero_grad()
        total = torch.zeros((), device=self.device)
        for part in chunks(images, self.widest, self.device):
            pictures = torch.as_tensor(images[part], device=self.device)
            x = input_tensor(pictures, self.device)  # (b, 3, S, S)
            y = self.target(pictures, None if targets is None else targets[part])
            with torch.autocast(
                self.device.type, torch.bfloat16, self.config.train.precision == "bf16"
            ):
                prediction = self.model(x)
            value = self.compare(self.loss, prediction.float(), y) * (len(x) / len(images))
            value.sum().backward()  # type: ignore[no-untyped-call]
            total = total + value.detach()
        self.optimiser.step(rate)
        self.rate = rate
        self.iterations += 1
        self.images += len(images)
        return total

    def compare(self, measure: Loss, prediction: Tensor, target: Tensor) -> Tensor:
        """A measure of what the network made of pictures, (b, 1, S, S), and their targets."""
        return measure(prediction, target)

    def target(self, pictures: Tensor, targets: Pictures | None) -> Tensor:
        """Targets (b, 1, S, S) of pictures (b, S, S, 3), computed on the device if not given."""
        if targets is None:
            assert self.on_device is not None
            return target_tensor(self.on_device(pictures), self.device)
        return target_tensor(targets, self.device)

    def review(self, stage: int, step: int, rule: StoppingRule, mean: Tensor) -> str | None:
        """Validate, record and report after `step` steps of a stage; why it ends, if it does."""
        with self.timed("validate"):
            l2, train_loss = self.validate().item(), mean.item()
        finite = math.isfinite(l2) and math.isfinite(train_loss)
        reason = rule.update(l2, step) if finite else "nan"
        seconds = time.perf_counter() - self.start
        self.curve.append(Point(self.iterations, seconds, train_loss, l2, rule.ema, self.rate))
        if not finite:
            return reason
        progress = Progress(self.iterations, stage, seconds, train_loss, rule.ema, l2, self.model)
        if self.report(progress):
            return "stopped"
        return "time" if self.out_of_time() and reason is None else reason

    def validate(self) -> Tensor:
        """Mean squared error over the pictures whose turn it is, by default all."""
        images, targets = self.valid  # (N, S, S, 3), (N, S, S)
        wanted = self.config.train.validation_images
        if wanted is None or wanted >= len(images):
            return self.l2(self.model, images, targets)
        turn = (np.arange(wanted) + wanted * self.validations) % len(images)
        self.validations += 1
        return self.l2(self.model, images[turn], targets[turn])

    def final_l2(self, model: FilterNet, end: Point) -> float:
        """Mean squared error over the whole validation set; `end` is the last validation."""
        images, targets = self.valid
        if (self.config.train.validation_images or len(images)) >= len(images):
            return end.l2
        with self.timed("validate"):
            return self.l2(model, images, targets).item()

    @torch.inference_mode()
    def l2(self, model: FilterNet, images: Pictures, targets: Pictures) -> Tensor:
        """Mean squared error of a model on images (N, S, S, 3) and targets (N, S, S)."""
        total = torch.zeros((), device=self.device)
        for part in chunks(images, self.widest, self.device):
            x = input_tensor(images[part], self.device)
            y = target_tensor(targets[part], self.device)
            total = total + self.compare(F.mse_loss, model(x), y) * len(x)
        return (total / len(images)).cpu()

    def times(self) -> dict[str, float]:
        """Seconds by what they were spent on, see `TrainResult`."""
        # Threads that prepare batches ahead may wait while the training does not.
        decode = min(self.pool.waited, self.timings["data"])
        return self.timings | {"data": self.timings["data"] - decode, "decode": decode}

    def out_of_time(self) -> bool:
        """Whether the time limit has passed."""
        limit = self.config.train.max_seconds
        return limit is not None and time.perf_counter() - self.start >= limit

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time the block takes to `timings[name]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] += time.perf_counter() - start
