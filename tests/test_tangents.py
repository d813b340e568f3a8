import itertools
import random

import pytest
import torch
from test_model import random_architecture
from torch import Tensor, nn
from torch.func import functional_call, jacfwd

from clapp.config import ModelConfig
from clapp.models.networks.filternet import FilterNet
from clapp.training.optimisers.tangents import jacobian

# torch.func imports what torch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


def expected(net: nn.Module, x: Tensor) -> Tensor:
    """The same by torch's own forward mode: (P, B, C, H, W)."""
    values = {name: p.detach() for name, p in net.named_parameters()}
    found = jacfwd(lambda v: functional_call(net, v, (x,)))(values)
    return torch.cat([found[name].flatten(4).movedim(-1, 0) for name in values])


def has_ties(config: ModelConfig) -> bool:
    """Equal maxima at several pixels: torch shares the derivative, ours takes the first one's."""
    windows = any(block.activation in ("max3", "min3") for block in config.blocks)
    return windows and config.output_norm == "max"


@pytest.mark.parametrize("seed", range(60))
def test_equals_forward_mode_of_torch(seed: int) -> None:
    config = random_architecture(random.Random(f"tangents {seed}"), downsample=1 + seed % 2)
    torch.manual_seed(seed)
    net = FilterNet(config).double().eval()
    if has_ties(config) or sum(p.numel() for p in net.parameters()) > 400:
        config = random_architecture(random.Random(seed), activation="gelu", capacity=2)
        net = FilterNet(config).double().eval()
    x = torch.rand(2, 3, 33, 30, dtype=torch.float64)
    output, tangents = jacobian(net, x)
    torch.testing.assert_close(output, net(x))
    torch.testing.assert_close(tangents, expected(net, x))


def test_several_outputs() -> None:
    for head, norm in itertools.product(("conv", "sum"), ("none", "max")):
        config = random_architecture(
            random.Random(0), head=head, output_norm=norm, output_channels=2, capacity=4
        )
        net = FilterNet(config).double().eval()
        x = torch.rand(2, 3, 33, 30, dtype=torch.float64)
        torch.testing.assert_close(jacobian(net, x)[1], expected(net, x))


def test_the_network_is_as_it_was() -> None:
    net = FilterNet(random_architecture(random.Random(0))).train()
    before = list(net.parameters())
    jacobian(net, torch.rand(1, 3, 40, 40))
    assert all(a is b for a, b in zip(net.parameters(), before, strict=True))
    assert net.training


@pytest.mark.parametrize(
    "net",
    [
        nn.Conv2d(3, 1, 3, stride=2),
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.Softmax2d()),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelShuffle(2)),
    ],
)
def test_an_operation_without_a_rule_is_left_to_torch(net: nn.Module) -> None:
    x = torch.rand(2, 3, 9, 9)
    output, tangents = jacobian(net, x)
    torch.testing.assert_close(output, net(x))
    torch.testing.assert_close(tangents, expected(net, x))
