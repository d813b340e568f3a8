"""Latency and memory of a network, measured."""

from typing import Any

import torch

from clapp.models.costs import cost
from clapp.models.measure import measure

PLAIN: dict[str, Any] = {
    "capacity": 4,
    "num_layers": 1,
    "norm": "none",
    "rezero": False,
    "reskip": False,
    "padding": "zero",
    "activation": "none",
}


def test_memory_counts_what_is_alive_at_once() -> None:
    pixels, weights = 224 * 224, cost(PLAIN).params
    # At the convolution: the picture (3 channels), its input (4) and its output (4).
    expected = 4 * (pixels * (3 + 4 + 4) + weights)
    assert measure(PLAIN).memory_bytes == expected
    deep = measure(PLAIN | {"num_layers": 8}).memory_bytes
    assert deep - expected == 4 * (cost(PLAIN | {"num_layers": 8}).params - weights)


def test_latency_orders_networks_and_leaves_threads_alone() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        small = measure({"capacity": 1, "num_layers": 1})
        large = measure({"capacity": 32, "num_layers": 4})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert 0 < small.latency_ms * 5 < large.latency_ms
