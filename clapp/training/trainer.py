"""Training: from a validated configuration to a trained network and the record of its training.

`Trainer.step` is one step. `Trainer.stage` repeats it at one resolution until a stopping rule ends
the stage, and `train` goes through the resolutions.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clapp.config import Config
from clapp.errors import ConfigError
from clapp.filters.learned.settings import adjustable, grid
from clapp.filters.on_device import batched
from clapp.models.build import Network, build_model, min_size
from clapp.models.fast_conv.layer import fast_convolutions
from clapp.pool.batches import Batch, Batches
from clapp.pool.pool import Pool, validation_set
from clapp.pool.validation import constant_losses, origins
from clapp.training.average import WeightAverage
from clapp.training.device import resolve_device
from clapp.training.losses import Spread, loss, loss_words, smallest_crop, spread
from clapp.training.optimisers.registry import OPTIMISERS, Optimiser, chosen
from clapp.training.result import Point as Point
from clapp.training.result import Progress as Progress
from clapp.training.result import Report as Report
from clapp.training.result import TrainResult as TrainResult
from clapp.training.schedule import learning_rate
from clapp.training.starts import best_start
from clapp.training.stopping import StoppingRule
from clapp.training.tensors import Pictures, chunks, input_tensor, target_tensor

# These reasons end the whole training, the others only a stage.
_FINAL = {"time", "nan", "stopped"}
_REPEATED = 2  # batches that an optimiser may use several times in a row


def train(
    config: Config, report: Report | None = None, weights: Mapping[str, Tensor] | None = None
) -> TrainResult:
    """Train a network as `config` says; on the CPU the result follows from the configuration alone.

    Args:
        config: a complete configuration.
        report: called after every validation; returning True ends the training ("stopped").
        weights: to start from, a state of the network, and no others are tried; None: drawn from
            the seed.

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
        return Trainer(config, pool, device, report, weights).run()


def check(config: Config) -> None:
    """Raise ConfigError if pictures, network, loss and optimiser do not fit together."""
    model = config.model
    if chosen(config) == "lm" and config.train.precision != "float32":
        raise ConfigError(
            f"train.precision {config.train.precision}: not with train.optimizer lm, which solves "
            "its equations in float64; allowed: float32"
        )
    least, crop = smallest_crop(config.train.loss_type), config.train_data.crop_size
    if crop < least:
        raise ConfigError(
            f"train_data.crop_size {crop}: train.loss_type {loss_words(config.train.loss_type)} "
            f"compares crops of at least {least} pixels"
        )
    for key, crop in (
        ("train_data.crop_size", config.train_data.crop_size),
        ("valid_data.crop_size", config.valid_data.crop_size),
    ):
        if crop < min_size(model):
            raise ConfigError(f"{key} {crop}: this network needs at least {min_size(model)} pixels")


class Trainer:
    """One training: the network, its optimiser, and the record of what happened."""

    def __init__(
        self,
        config: Config,
        pool: Pool,
        device: torch.device,
        report: Report | None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.config, self.pool, self.device = config, pool, device
        self.report: Report = report or (lambda _: False)
        fixed = config.parameter is None and device.type == "cuda"
        self.on_device = batched(config.target_filter) if fixed else None
        self.valid = validation_set(config.valid_data, config.target_filter, config.parameter)
        self.losses = torch.zeros(0)  # of the last validation over all pictures, one a crop
        self.loss = loss(config.train.loss_type)
        self.optimizer = chosen(config)
        self.rate = 0.0
        self.timings = {"data": 0.0, "step": 0.0, "validate": 0.0}
        self.curve: list[Point] = []
        self.iterations = self.images = self.validations = self.starts = 0
        self.start = time.perf_counter()
        self.model = build_model(config.model).to(device)
        self.wanted_starts = config.train.starts if weights is None else 1
        if weights is not None:
            self.model.load_state_dict(dict(weights))
        self.optimiser = self.optimise(self.model)
        self.average: WeightAverage | None = None

    def optimise(self, model: Network) -> Optimiser:
        """The optimiser of a network."""
        return OPTIMISERS.find(self.optimizer)(model, self.loss, self.config)

    def run(self) -> TrainResult:
        """Go through the resolutions."""
        for stage in range(self.config.num_resolutions):
            reason = self.stage(stage)
            if reason in _FINAL:
                break
        if self.average is not None:
            self.average.apply()
        end = self.curve[-1]
        loss = math.nan if reason == "nan" else self.final_l2(self.model, end)
        seconds = time.perf_counter() - self.start
        self.optimiser.release()
        return TrainResult(
            model=self.model.to("cpu").eval(),
            loss=loss,
            ema=end.ema,
            stop_reason=reason,
            iterations=self.iterations,
            images=self.images,
            seconds=seconds,
            timings=self.times(),
            curve=self.curve,
            device=str(self.device),
            optimizer=self.optimizer,
            starts=self.starts,
            config=self.config,
            spread=None if reason == "nan" else self.spread(),
        )

    def stage(self, stage: int) -> str:
        """Train at one resolution until a stopping rule ends it; returns the reason."""
        train, rule = self.config.train, StoppingRule(self.config.train)
        # Since the last validation; read only then, since reading waits for the device.
        losses: list[Tensor] = []
        size = self.optimiser.iterations
        with closing(self.batches(stage).prefetch(0, train.num_workers)) as stream:
            pairs = self.pairs(stream)
            if stage == 0:
                self.choose_start(pairs)
                decay = train.weight_average
                self.average = WeightAverage(self.model, decay) if decay is not None else None
            for step in range(size, max(train.max_iterations, size) + 1, size):
                with self.timed("data"):
                    x, y = next(pairs)
                rate = learning_rate(step - size, train)
                with self.timed("step"):
                    losses.append(self.step(x, y, rate))
                last = step + size > train.max_iterations or self.out_of_time()
                if last or step % train.validation_interval < size:
                    with self.timed("step"):
                        mean = torch.stack(losses).mean(0).cpu()
                    losses.clear()
                    with self.average.applied() if self.average else nullcontext():
                        reason = self.review(stage, step, rule, mean)
                    if reason is not None:
                        return reason
        return "iterations"

    def choose_start(self, pairs: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Train briefly from several initial weights, and go on with the best network."""
        if self.wanted_starts == 1:
            return
        models = [self.model]
        while len(models) < self.wanted_starts:
            models.append(build_model(self.config.model).to(self.device))
        with self.timed("step"):
            found = best_start(
                [self.optimise(model) for model in models],
                models,
                pairs,
                self.config.train.learning_rate,
            )
        self.model, self.optimiser, self.starts = found.model, found.optimiser, found.alive
        self.iterations += found.steps * self.optimiser.iterations

    def batches(self, stage: int) -> Batches:
        """The training batches of a stage; each stage doubles crop and base and halves the
        batch."""
        data, train, factor = self.config.train_data, self.config.train, 2**stage
        target = adjustable(self.config.target_filter, self.config.parameter)
        return Batches(
            self.pool,
            None if self.on_device else target,
            batch_size=train.batch_size // factor,
            crop=data.crop_size * factor,
            base=data.resize_base * factor,
            seed=train.seed if train.batch_seed is None else train.batch_seed,
        )

    def pairs(self, stream: Iterator[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches as tensors: pictures (B, 3, S, S) and targets (B, C, S, S), both in [0, 1].

        The optimiser says how often each of the first few is used in a row.
        """
        for number, (images, targets) in enumerate(stream):
            pictures = torch.as_tensor(images, device=self.device)
            x, y = input_tensor(pictures, self.device), self.target(pictures, targets)
            self.images += len(images)
            for _ in range(self.optimiser.repeats if number < _REPEATED else 1):
                yield x, y

    def step(self, x: Tensor, y: Tensor, rate: float) -> Tensor:
        """One optimiser step on pictures (B, 3, S, S) and targets (B, C, S, S); returns the loss
        before it."""
        self.rate = rate
        self.iterations += self.optimiser.iterations
        loss = self.optimiser.step(x, y, rate)
        if self.average is not None:
            self.average.update()
        return loss

    def target(self, pictures: Tensor, targets: NDArray[Any] | None) -> Tensor:
        """Targets (B, C, S, S) of pictures (B, S, S, 3), computed on the device if None."""
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
        """Mean squared error over the validation pictures, or an estimate from some in turn.

        The estimate is that of a ratio: relative to the loss of the best constant output on the
        same pictures, so that a turn of difficult pictures does not look like a rise of the loss.
        """
        images, targets = self.valid  # (N, S, S, 3), (N, S, S) or (N, S, S, 3)
        wanted = self.config.train.validation_images
        if wanted is None or wanted >= len(images):
            self.losses = self.l2(self.model, images, targets)
            return self.losses.mean()
        turn = (np.arange(wanted) + wanted * self.validations) % len(images)
        self.validations += 1
        config = self.config
        constant = torch.from_numpy(
            constant_losses(config.valid_data, config.target_filter, config.parameter)
        )
        share = constant[turn].mean() / constant.mean()
        return self.l2(self.model, images[turn], targets[turn]).mean() / (share if share > 0 else 1)

    def final_l2(self, model: Network, end: Point) -> float:
        """Mean squared error over the whole validation set; `end` is the last validation."""
        images, targets = self.valid
        if (self.config.train.validation_images or len(images)) >= len(images):
            return end.l2
        with self.timed("validate"):
            self.losses = self.l2(model, images, targets)
            return self.losses.mean().item()

    def spread(self) -> Spread:
        """What the final loss is a mean over."""
        points = len(grid(self.config.settings))
        return spread(self.losses.tolist(), origins(self.config.valid_data, points))

    @torch.inference_mode()
    def l2(self, model: Network, images: Pictures, targets: NDArray[Any]) -> Tensor:
        """Mean squared errors (N,) on images (N, S, S, 3) and targets like them or grey."""
        found = []
        with fast_convolutions(model):
            for part in chunks(images, self.config.model.widest, self.device):
                x = input_tensor(images[part], self.device)
                y = target_tensor(targets[part], self.device)
                found.append(F.mse_loss(model(x), y, reduction="none").flatten(1).mean(1))
        return torch.cat(found).cpu()

    def times(self) -> dict[str, float]:
        """Seconds by activity; see `TrainResult.timings`."""
        # Threads that prepare batches may wait for pictures while the training goes on.
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
