"""The learning rate over a stage of training: schedules by name."""

import math
from collections.abc import Callable

from clapp.config import TrainConfig
from clapp.system.registry import Registry

Schedule = Callable[[int, TrainConfig], float]
SCHEDULES: Registry[Schedule] = Registry("schedule")
_WARM = 0.3
"""Share of a stage in which the rate of `one_cycle` rises."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of the optimiser step with number `step`, counted from 0 in each stage."""
    return SCHEDULES.find(config.schedule)(step, config)


def known_schedules() -> list[str]:
    """The values that `train.schedule` may have."""
    return SCHEDULES.names()


@SCHEDULES.register("cosine")
def cosine(step: int, config: TrainConfig) -> float:
    """Cosine annealing with warm restarts (Loshchilov & Hutter 2017, SGDR).

    The first cycle takes `lr_cycle` steps, each following one twice as many as the one before.
    """
    cycle = config.lr_cycle
    while step >= cycle:
        step -= cycle
        cycle *= 2
    return _cosine(config.learning_rate, config.min_lr, step / cycle)


@SCHEDULES.register("constant")
def constant(_: int, config: TrainConfig) -> float:
    """The same rate at every step."""
    return config.learning_rate


@SCHEDULES.register("linear")
def linear(step: int, config: TrainConfig) -> float:
    """A straight line from `learning_rate` to `min_lr` over `max_iterations`."""
    return config.learning_rate + (config.min_lr - config.learning_rate) * _share(step, config)


@SCHEDULES.register("exponential")
def exponential(step: int, config: TrainConfig) -> float:
    """The same factor at every step, from `learning_rate` to `min_lr` over `max_iterations`.

    A `min_lr` of 0 counts as a millionth of `learning_rate`.
    """
    end = config.min_lr or config.learning_rate * 1e-6
    return float(config.learning_rate * (end / config.learning_rate) ** _share(step, config))


@SCHEDULES.register("one_cycle")
def one_cycle(step: int, config: TrainConfig) -> float:
    """Up from a tenth of `learning_rate` for 30 % of `max_iterations`, then down to `min_lr`.

    Smith & Topin 2018, in cosines.
    """
    share = _share(step, config)
    if share < _WARM:
        start = max(config.learning_rate / 10, config.min_lr)
        return _cosine(start, config.learning_rate, share / _WARM)
    return _cosine(config.learning_rate, config.min_lr, (share - _WARM) / (1 - _WARM))


def _share(step: int, config: TrainConfig) -> float:
    return min(step / config.max_iterations, 1)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
