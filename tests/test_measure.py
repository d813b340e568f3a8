"""Latency of a network, measured."""

import torch

from clapp.models.measure import latency


def test_latency_orders_networks_and_leaves_threads_alone() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        small = latency({"capacity": 1, "num_layers": 1})
        large = latency({"capacity": 32, "num_layers": 4})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert 0 < small * 5 < large
