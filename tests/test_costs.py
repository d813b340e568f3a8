import random
import time
from typing import Any

import pytest
import torch
from test_model import random_architecture
from torch.utils.flop_counter import FlopCounterMode

from clapp.config import model_config
from clapp.costs import _cost, cost, measure
from clapp.errors import ConfigError
from clapp.model import FilterNet


def test_the_reference_network() -> None:
    assert cost({}) == (2505, 230311936)


@pytest.mark.parametrize("seed", range(40))
def test_equals_a_counted_forward_pass(seed: int) -> None:
    channels = {"input_channels": 1 + seed % 4, "output_channels": 1 + seed % 3}
    config = random_architecture(random.Random(seed), **channels)
    net = FilterNet(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.rand(1, config.input_channels, 224, 224))
    params = sum(p.numel() for p in net.parameters())
    assert cost(config) == (params, counter.get_total_flops())


def test_takes_milliseconds_and_is_cached_by_architecture() -> None:
    start = time.process_time()
    configs = [model_config({"capacity": 100 + i}) for i in range(20)]
    assert len({cost(config) for config in configs}) == 20
    assert time.process_time() - start < 20 * 0.020
    before = _cost.cache_info()
    again = {"capacity": 100, "stem": 100}  # the same network in other words
    assert cost(again) == cost(configs[0])
    assert _cost.cache_info().misses == before.misses


def test_shape_of_a_bad_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match="kernel_size"):
        cost({"kernel_size": 2})


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
