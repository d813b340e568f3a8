"""Measure the latency of a network on this machine, for one picture of 224x224."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from clapp.config import ModelConfig, model_config
from clapp.models.build import build_model
from clapp.models.costs import SIDE

_WARM_UP, _RUNS = 3, 15


def latency(config: ModelConfig | Mapping[str, Any]) -> float:
    """Median milliseconds for one picture, with initial weights and one CPU thread.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    valid = config if isinstance(config, ModelConfig) else model_config(config)
    net = build_model(valid).eval()
    picture = torch.rand(1, valid.input_channels, SIDE, SIDE)
    with torch.inference_mode(), _one_thread():
        return _median_seconds(lambda: net(picture)) * 1000


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _median_seconds(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_WARM_UP + _RUNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[_WARM_UP:])
