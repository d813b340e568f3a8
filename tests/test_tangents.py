import itertools
import random

import pytest
import torch
from test_model import random_architecture
from torch import Tensor, nn
from torch.func import functional_call, jacfwd

from clapp.config import ModelConfig
from clapp.models.activations import known_activations
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
    level = any(block.activation in ("max3", "min3", "clip") for block in config.blocks)
    return level and config.output_norm == "max"


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


@pytest.mark.parametrize("name", known_activations())
def test_every_activation_has_a_rule(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own way takes several times as long, and gives the same: only this would tell."""
    net = FilterNet(random_architecture(random.Random(0), activation=name, norm="none")).double()
    x = torch.rand(2, 3, 33, 30, dtype=torch.float64)
    wanted = expected(net, x)
    monkeypatch.delattr("clapp.training.optimisers.tangents._by_torch")
    torch.testing.assert_close(jacobian(net, x)[1], wanted)


@pytest.mark.parametrize("name", ["none", "relu", "sqrt", "sigmoid", "clip"])
def test_every_end_has_a_rule(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"output_activation": name, "output_norm": "none", "activation": "gelu"}
    net = FilterNet(random_architecture(random.Random(0), **changes)).double()
    x = torch.rand(2, 3, 33, 30, dtype=torch.float64)
    wanted = expected(net, x)
    monkeypatch.delattr("clapp.training.optimisers.tangents._by_torch")
    torch.testing.assert_close(jacobian(net, x)[1], wanted)


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


class Mixture(nn.Module):
    """A random chain of convolutions, and of sums, products and quotients that broadcast.

    The other operand is the picture or a fixed tensor, which depend on no parameter, an earlier
    value or a parameter, of one channel or as many as the value.
    """

    OPERATIONS = ("conv", "function", "plain", "earlier", "scale", "maximum", "cat", "slice", "pad")

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(f"mixture {seed}")
        self.register_buffer("fixed", torch.rand(20, 1, 1))
        chosen = rng.choices(self.OPERATIONS, k=6)
        self.steps, channels = [], 3
        self.convolutions, self.scales = nn.ModuleList(), nn.ParameterList()
        for step in ("conv", *chosen, "conv"):
            if step == "conv":
                outputs = rng.choice((1, 2, 3))
                groups = channels if rng.random() < 0.3 else 1
                outputs = channels if groups > 1 else outputs
                one = nn.Conv2d(channels, outputs, 3, padding=1, groups=groups)
                self.convolutions.append(one)
                channels = outputs
            elif step == "scale":
                wide = rng.choice((1, 3)) if channels == 1 else rng.choice((1, channels))
                self.scales.append(nn.Parameter(torch.randn(1, wide, 1, 1)))
                channels = max(channels, wide)
            elif step == "cat":
                channels += 3
            elif step == "slice":
                channels = 1
            elif step in ("plain", "earlier"):
                wide = rng.choice((1, 3)) if channels == 1 else rng.choice((1, channels))
                operator = rng.choice(("add", "sub", "mul", "div", "from", "into"))
                step = f"{step} {wide} {operator} {rng.choice(('whole', 'one', 'short'))}"
                channels = max(channels, wide)
            self.steps.append(step)

    def _other(self, kind: str, wide: int, size: str, image: Tensor, kept: list) -> Tensor:
        if kind == "plain":
            if size == "short":  # fewer dimensions, rows and columns
                return 1 + self.fixed[:wide]
            return 1 + (image[:, :wide] if wide <= 3 else image[:, :1].expand(-1, wide, -1, -1))
        other = kept[0][:, :1] if wide == 1 else torch.cat([kept[-1][:, :1]] * wide, 1)
        other = torch.tanh(other)
        return torch.amax(other, (1, 2, 3), keepdim=True) if size == "one" and wide == 1 else other

    def forward(self, image: Tensor) -> Tensor:
        x, kept = image, []
        convolutions, scales = iter(self.convolutions), iter(self.scales)
        for step in self.steps:
            kind, *rest = step.split()
            if kind == "conv":
                x = next(convolutions)(x)
            elif kind == "function":
                x = torch.tanh(x)
            elif kind == "scale":
                x = next(scales) * x
            elif kind == "maximum":
                x = x / (torch.amax(torch.square(x), (1, 2, 3), keepdim=True) + 1)
            elif kind == "cat":
                x = torch.cat([image, x], -3)
            elif kind == "slice":
                x = x[..., 1:2, :, :]
                x = x if x.shape[1] else kept[-1][:, :1]
            elif kind == "pad":
                x = nn.functional.pad(x, (1, 2, 0, 1), value=0.5)[..., :-1, 1:-2]
            else:
                other = self._other(kind, int(rest[0]), rest[2], image, kept)
                x = {
                    "add": lambda a, b: a + b,
                    "sub": lambda a, b: a - b,
                    "mul": lambda a, b: a * b,
                    "div": lambda a, b: a / (b * b + 1),
                    "from": lambda a, b: 1 - a * b,
                    "into": lambda a, b: a * (b - 0.5) * 2,
                }[rest[1]](x, other)
            kept.append(x)
        return x


@pytest.mark.parametrize("seed", range(60))
def test_sums_and_products_that_broadcast(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(seed)
    net = Mixture(seed).double().eval()
    x = torch.rand(2, 3, 7, 6, dtype=torch.float64)
    wanted = expected(net, x)
    monkeypatch.delattr("clapp.training.optimisers.tangents._by_torch")
    output, tangents = jacobian(net, x)
    torch.testing.assert_close(output, net(x))
    torch.testing.assert_close(tangents, wanted)


class Gated(nn.Module):
    """Features tied to one channel each, times a plain tensor of several channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image) * (image + 0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_plain_factor_of_several_channels(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = Gated(channels).double(), torch.rand(2, 3, 7, 6, dtype=torch.float64)
    wanted = expected(net, x)
    monkeypatch.delattr("clapp.training.optimisers.tangents._by_torch")
    torch.testing.assert_close(jacobian(net, x)[1], wanted)


class Applied(nn.Module):
    """A convolution, and a function of its result, weights and bias."""

    def __init__(self, function) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 2, 1), function

    def forward(self, image: Tensor) -> Tensor:
        return self.function(self.conv(image), self.conv.weight, self.conv.bias)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w, b: x**2,
        lambda x, w, b: 1 / (x * x + 1),
        lambda x, w, b: x - b.view(1, -1, 1, 1),
        lambda x, w, b: nn.functional.conv2d(x, w[:, :2] - w.mean()),
        lambda x, w, b: nn.functional.conv2d(x, torch.ones_like(x[:1, :, :1, :1])),
        lambda x, w, b: nn.functional.relu(x, inplace=True),
        lambda x, w, b: nn.functional.max_pool2d(x, 2, 1, dilation=2),
        lambda x, w, b: nn.functional.max_pool2d(x, 3, 2, ceil_mode=True),
        lambda x, w, b: nn.functional.pad(x, (0, 0, 0, 0, 1, 1)),
        lambda x, w, b: x[:, 0] * 2,
        lambda x, w, b: x * torch.exp(w[:, :1]).sum(),
    ],
)
def test_what_a_rule_refuses_is_left_to_torch(function) -> None:
    net, x = Applied(function).double(), torch.rand(2, 3, 9, 9, dtype=torch.float64)
    values = {name: p.detach() for name, p in net.named_parameters()}
    found = jacfwd(lambda v: functional_call(net, v, (x,)))(values)
    wanted = [found[name].flatten(net(x).dim()).movedim(-1, 0) for name in values]
    torch.testing.assert_close(jacobian(net, x)[1], torch.cat(wanted))


def test_a_fixed_kernel_has_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = torch.rand(4, 1, 3, 3, dtype=torch.float64)
    net = Applied(lambda x, w, b: nn.functional.conv2d(x, kernel, groups=2)).double()
    x = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    wanted = expected(net, x)
    monkeypatch.delattr("clapp.training.optimisers.tangents._by_torch")
    torch.testing.assert_close(jacobian(net, x)[1], wanted)
