"""The training of 2022, written anew from its published configuration and behaviour.

A thread decodes pictures, resizes, crops and filters them and keeps pairs as float32 in a list; the
loop draws batches from the list at random, takes one optimiser step on the whole batch, and every
few steps validates on one batch drawn from a second such list. Weights start as PyTorch draws them:
that system had no initialisation of its own. Three things are in its favour here: its pictures come
from the disk and not over the network, its second stage at twice the resolution is left out, and
its steps begin when its buffers are full, so that no decoding runs beside them.
"""

import random
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from clapp.config import Config, DataConfig, ModelConfig
from clapp.errors import ClappError, one_line
from clapp.filters.library import Filter, resolve
from clapp.images import open_source
from clapp.images.decode import Picture, shorter_side_to
from clapp.images.source import stream
from clapp.models.build import Network, build_model
from clapp.training.losses import loss

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Settings:
    """The published `default.yaml`: sizes in pixels, delays in seconds, lengths in steps."""

    batch_size: int = 256  # of the validation as well
    crop_size: int = 64
    resize_base: int = 96
    min_buffer: int = 2000  # of the validation as well, like `max_buffer`
    max_buffer: int = 8000
    train_delay: float = 0.1
    valid_delay: float = 0.2
    learning_rate: float = 0.001
    min_lr: float = 1e-5
    lr_cycle: int = 500
    loss_type: str = "all"
    validation_interval: int = 5
    stop_loss_ema: float = 0.95
    min_iterations: int = 500
    max_iterations: int = 5000


def with_buffer(pairs: int) -> Settings:
    """The published settings, with buffers that are full with so many pairs."""
    return Settings(min_buffer=min(Settings.min_buffer, pairs), max_buffer=pairs)


@dataclass(frozen=True)
class Trained:
    """What a run of the loop came to.

    Attributes:
        seconds: of the timed steps and their validations.
        steps: the timed ones.
        ema: moving average of the validations' L2; NaN before the first.
        reached: whether the average fell below the threshold.
    """

    model: Network
    seconds: float
    steps: int
    ema: float
    reached: bool


class Buffer:
    """Pairs in a list, filled by a thread up to `most`; then one is replaced every `delay` s."""

    def __init__(
        self, data: DataConfig, target: Filter, base: int, crop: int, most: int, delay: float
    ) -> None:
        self.data, self.target = data, target
        self.base, self.crop, self.most, self.delay = base, crop, most, delay
        self.pairs: list[Pair] = []
        self._rng = np.random.default_rng(data.seed)
        self._closed = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        try:
            for picture in stream(open_source(self.data)):
                pair = self._pair(picture)
                if len(self.pairs) < self.most:
                    self.pairs.append(pair)
                else:
                    self._closed.wait(self.delay)
                    self.pairs[self._rng.integers(self.most)] = pair
                if self._closed.is_set():
                    return
        except Exception as error:
            self._error = error  # `wait` raises it

    def _pair(self, picture: Picture) -> Pair:
        """One random crop, float32 (3, S, S), and what the filter makes of it, (1, S, S)."""
        picture = shorter_side_to(picture, self.base)
        top, left = (int(self._rng.integers(side - self.crop + 1)) for side in picture.shape[:2])
        crop = np.ascontiguousarray(picture[top : top + self.crop, left : left + self.crop])
        image = torch.from_numpy(crop).permute(2, 0, 1).float().div(255).contiguous()
        return image, torch.from_numpy(self.target(crop))[None].float().div(255)

    def wait(self, wanted: int) -> None:
        """Return when `wanted` pairs are there.

        Raises:
            ClappError: the thread died.
        """
        while len(self.pairs) < wanted:
            if self._error is not None:
                reason = one_line(self._error)
                raise ClappError(f"the buffer's thread died: {reason}") from self._error
            time.sleep(0.02)

    def batch(self, size: int, rng: random.Random) -> Pair:
        """A batch drawn with replacement: (B, 3, S, S) and (B, 1, S, S)."""
        drawn = rng.choices(self.pairs, k=size)
        return torch.stack([image for image, _ in drawn]), torch.stack([y for _, y in drawn])

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()
        self._thread.join()


class Buffers:
    """The two buffers, filled when the context is entered.

    Attributes:
        fill_seconds: until both held `min_buffer` pairs, when the system would begin to train.
    """

    def __init__(self, config: Config, settings: Settings) -> None:
        self._config, self._settings = config, settings
        self._open = ExitStack()

    def __enter__(self) -> Self:
        config, settings = self._config, self._settings
        target, valid, most = resolve(config.target_filter), config.valid_data, settings.max_buffer
        start = time.perf_counter()
        self.train = Buffer(
            config.train_data,
            target,
            settings.resize_base,
            settings.crop_size,
            most,
            settings.train_delay,
        )
        self._open.callback(self.train.close)
        self.valid = Buffer(
            valid, target, valid.resize_base, valid.crop_size, most, settings.valid_delay
        )
        self._open.callback(self.valid.close)
        self._wait(settings.min_buffer)
        self.fill_seconds = time.perf_counter() - start
        self._wait(most)
        return self

    def _wait(self, wanted: int) -> None:
        self.train.wait(wanted)
        self.valid.wait(wanted)

    def __exit__(self, *_: object) -> None:
        self._open.close()


def train(
    model_config: ModelConfig,
    buffers: Buffers,
    settings: Settings,
    seed: int,
    *,
    steps: int | None = None,
    threshold: float | None = None,
    warm_up: int = 0,
) -> Trained:
    """Train one network on filled buffers, with torch's own number of threads.

    Args:
        steps: how many to time; None: `max_iterations`.
        threshold: stop when the average of validation L2 is below. `min_iterations` is not applied.
        warm_up: steps before the timed ones.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)  # noqa: S311 - draws batches
    model = plain_model(model_config)
    objective = loss(settings.loss_type)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = CosineAnnealingWarmRestarts(
        optimiser, settings.lr_cycle, T_mult=2, eta_min=settings.min_lr
    )
    last = warm_up + (settings.max_iterations if steps is None else steps)
    ema, reached, start = float("nan"), False, time.perf_counter()
    for step in count(1):
        images, targets = buffers.train.batch(settings.batch_size, rng)
        optimiser.zero_grad()
        objective(model(images), targets).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % settings.validation_interval == 0:
            l2 = _validate(model, buffers.valid.batch(settings.batch_size, rng))
            weight = settings.stop_loss_ema
            ema = l2 if ema != ema else weight * ema + (1 - weight) * l2  # NaN: none yet
            reached = threshold is not None and ema < threshold
        if step == warm_up:
            start = time.perf_counter()
        if reached or step == last:
            break
    seconds = time.perf_counter() - start
    return Trained(model.eval(), seconds, step - warm_up, ema, reached)


def plain_model(config: ModelConfig) -> Network:
    """The network with the weights PyTorch draws, from its global seed."""
    model = build_model(config)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return model


@torch.no_grad()
def _validate(model: Network, batch: Pair) -> float:
    return F.mse_loss(model(batch[0]), batch[1]).item()
