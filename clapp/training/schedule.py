"""The learning rate: cosine annealing with warm restarts (Loshchilov & Hutter 2017, SGDR)."""

import math

from clapp.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of the optimiser step with number `step`, counted from 0 in each stage.

    The first cycle takes `lr_cycle` steps, each following one twice as many as the one before.
    """
    cycle = config.lr_cycle
    while step >= cycle:
        step -= cycle
        cycle *= 2
    cosine = (1 + math.cos(math.pi * step / cycle)) / 2
    return config.min_lr + (config.learning_rate - config.min_lr) * cosine
