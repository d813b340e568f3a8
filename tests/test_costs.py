import random
import subprocess
import sys
import time

import pytest
import torch
from test_model import random_architecture
from torch.utils.flop_counter import FlopCounterMode

from clapp.config import model_config
from clapp.errors import ConfigError
from clapp.models.costs import _cost, cost
from clapp.models.networks.filternet import FilterNet


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


def test_no_torch_is_loaded_to_count() -> None:
    code = (
        "import sys, clapp.models.costs; assert clapp.models.costs.cost({}) == (2505, 230311936); "
    )
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
