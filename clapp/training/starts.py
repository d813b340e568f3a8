"""Choose among several initial weights by successive halving (Jamieson and Talwalkar 2016)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clapp.models.build import Network
from clapp.models.fast_conv.layer import fast_convolutions
from clapp.training.optimisers.registry import Optimiser

ROUND = 100
"""Iterations between two halvings."""
PLATEAU = 0.6
"""A loss above this share of that of predicting the mean counts as the plateau."""


@dataclass(frozen=True)
class Start:
    """The best of several networks that were trained from different initial weights.

    Attributes:
        alive: number of networks that had left the plateau of predicting the mean at the first
            halving.
        steps: optimiser steps that the best network has made.
    """

    model: Network
    optimiser: Optimiser
    alive: int
    steps: int


def best_start(
    optimisers: Sequence[Optimiser],
    models: Sequence[Network],
    pairs: Iterator[tuple[Tensor, Tensor]],
    rate: float,
) -> Start:
    """Train all networks; after every `ROUND` iterations keep the better half, until one is left.

    All networks see the same batches. They are compared by their L2 on a batch that is not trained
    on.
    """
    left = list(zip(models, optimisers, strict=True))
    alive, steps = 0, 0
    size = max(1, ROUND // optimisers[0].iterations)
    while len(left) > 1:
        for _ in range(size):
            x, y = next(pairs)
            for _, optimiser in left:
                optimiser.step(x, y, rate)
        x, y = next(pairs)
        scores = [_l2(model, x, y) for model, _ in left]
        if not steps:
            # L2 of the best constant colour.
            variance = float(y.var((0, 2, 3), correction=0).mean())
            alive = sum(score < PLATEAU * variance for score in scores)
        steps += size
        order = sorted(range(len(left)), key=scores.__getitem__)
        left = [left[i] for i in order[: (len(left) + 1) // 2]]
    return Start(*left[0], alive, steps)


@torch.inference_mode()
def _l2(model: Network, x: Tensor, y: Tensor) -> float:
    """Mean squared error; infinite for a network that has diverged."""
    with fast_convolutions(model):
        value = float((model(x) - y).square().mean())
    return value if value < float("inf") else float("inf")
