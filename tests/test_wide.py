"""Convolutions trained with more numbers than weights, and folded."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clapp.config import identity
from clapp.errors import ConfigError
from clapp.models.build import build_model
from clapp.models.costs import cost
from clapp.training.optimisers.registry import chosen
from clapp.training.optimisers.wide import SOURCES, Expanded, Parallel, Wide
from clapp.training.trainer import train
from tests.test_convergence import config_of

X = torch.rand(2, 4, 9, 11, generator=torch.Generator().manual_seed(0))


def moved(source: Parallel | Expanded) -> Parallel | Expanded:
    """Its numbers away from their start."""
    with torch.no_grad():
        for values in source.parameters:
            values.add_(torch.randn_like(values))
    return source


def folded(convolution: nn.Conv2d, source: Parallel | Expanded) -> torch.Tensor:
    with torch.no_grad():
        convolution.weight.copy_(source.kernel())
        result: torch.Tensor = convolution(X)
    return result


@pytest.mark.parametrize("groups", [1, 4])
@torch.no_grad()
def test_parallel_branches_are_folded_to_one_convolution(groups: int) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 4, (3, 5), padding=(1, 2), groups=groups)
    source = moved(Parallel(convolution))
    bias = convolution.bias
    wide = F.conv2d(X, source.main, bias, padding=(1, 2), groups=groups)
    wide += F.conv2d(X, source.point, groups=groups) + source.scale.view(-1, 1, 1) * X
    assert (folded(convolution, source) - wide).abs().max() < 1e-5


@torch.no_grad()
def test_an_expanded_convolution_is_folded_to_one() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 3, 3, padding=1)
    source = moved(Expanded(convolution))
    wide = F.conv2d(X, source.wide.view(6, 4, 3, 3), padding=1)
    wide = F.conv2d(wide, source.narrow.view(3, 6, 1, 1), convolution.bias)
    assert (folded(convolution, source) - wide).abs().max() < 1e-5


@pytest.mark.parametrize("how", SOURCES)
@pytest.mark.parametrize("family", ["filternet", "can", "unet"])
def test_nothing_changes_at_first_and_gradients_follow_the_chain_rule(
    family: str, how: str
) -> None:
    torch.manual_seed(0)
    net = build_model({"family": family, "input_channels": 4}).eval()
    before = net(X).detach()
    wide = Wide(net, how)
    wide.fold()
    torch.testing.assert_close(net(X), before, atol=1e-6, rtol=1e-6)
    F.mse_loss(net(X), X[:, :1]).backward()
    wide.backward()
    gradients = [p.grad.clone() for p in wide.parameters if p.grad is not None]
    assert len(gradients) == len(wide.parameters)
    kernels = {id(w): s.kernel() for w, s in zip(wide._weights, wide._sources, strict=True)}
    values = {n: kernels.get(id(p), p) for n, p in net.named_parameters()}
    loss = F.mse_loss(torch.func.functional_call(net, values, (X,)), X[:, :1])
    for one, other in zip(gradients, torch.autograd.grad(loss, wide.parameters), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("how", SOURCES)
def test_a_training_gives_the_plain_network(how: str) -> None:
    config = config_of(reparam=how, max_iterations=40)
    plain = config_of(max_iterations=40)
    found, other = train(config), train(plain)
    state = found.model.state_dict()
    assert {k: v.shape for k, v in state.items()} == {
        k: v.shape for k, v in other.model.state_dict().items()
    }
    assert found.loss != other.loss
    assert found.loss < found.curve[0].l2
    assert sum(p.numel() for p in found.model.parameters()) == cost(config.model).params
    assert all(p.grad is None for p in found.model.parameters())
    assert identity(config) != identity(plain)


def test_levenberg_marquardt_does_not_take_it() -> None:
    with pytest.raises(ConfigError, match=r"optimizer lm: .*reparam parallel; allowed: adam"):
        config_of(reparam="parallel", optimizer="lm")
    assert chosen(config_of(reparam="expanded", optimizer="auto", loss_type="l2")) == "adam"
    assert chosen(config_of(optimizer="auto", loss_type="l2")) == "lm"
