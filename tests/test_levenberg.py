import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from test_model import FORMS, SMALL
from torch import Tensor, nn

from clapp.errors import ConfigError
from clapp.models.build import build_model
from clapp.models.networks.filternet import FilterNet
from clapp.training.losses import loss
from clapp.training.optimisers import levenberg
from clapp.training.optimisers.levenberg import LevenbergMarquardt


def problem(seed: int = 0) -> tuple[FilterNet, Tensor, Tensor]:
    """A small network, pictures, and targets that another one of its kind makes."""
    torch.manual_seed(seed)
    values = SMALL | {"stem": 1, "kernel_size": 3, "activation": "tanh", "padding": "zero"}
    teacher, net = build_model(values).eval(), build_model(values).eval()
    x = torch.rand(4, 3, 12, 12)
    return net, x, teacher(x).detach()


def residuals(net: FilterNet, x: Tensor, y: Tensor, values: np.ndarray) -> np.ndarray:
    nn.utils.vector_to_parameters(torch.from_numpy(values), net.parameters())
    return (net(x) - y).detach().flatten().numpy()


def test_normal_equations_are_those_of_scipy() -> None:
    net, x, y = problem()
    net, x, y = net.double(), x.double(), y.double()
    start = nn.utils.parameters_to_vector(net.parameters()).detach().numpy().copy()
    matrix, gradient, mean = LevenbergMarquardt(net, loss("l2"), 2).normal_equations(x, y)

    def fun(values: np.ndarray) -> np.ndarray:
        return residuals(net, x, y, values)

    peer = least_squares(fun, start, jac="3-point", method="trf", max_nfev=1)
    expected = peer.jac.T @ peer.jac
    size = np.abs(expected).max()
    # The loss is the sum of squares, scipy's cost half of it: both sides are twice theirs.
    np.testing.assert_allclose(matrix.numpy() / 2, expected, atol=1e-6 * size, rtol=0)
    np.testing.assert_allclose(gradient.numpy() / 2, peer.grad, atol=1e-6 * size, rtol=0)
    assert mean.item() == pytest.approx(2 * peer.cost / y.numel())


def test_one_step_solves_the_damped_equations() -> None:
    net, x, y = problem()
    net, x, y = net.double(), x.double(), y.double()
    optimiser = LevenbergMarquardt(net, loss("l2"), 2)
    matrix, gradient, before = optimiser.normal_equations(x, y)
    damped = matrix + optimiser.damping * torch.diag(matrix.diagonal())
    start = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    expected = start - torch.linalg.solve(damped, gradient)
    assert optimiser.step(x, y) == before
    moved = nn.utils.parameters_to_vector(net.parameters()).detach()
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=1e-6)
    assert optimiser.damping == levenberg._FIRST_DAMPING / 4


def test_a_network_of_its_kind_is_found_again() -> None:
    net, x, y = problem()
    optimiser = LevenbergMarquardt(net, loss("l2"), 2)
    first = optimiser.step(x, y)
    for _ in range(60):
        last = optimiser.step(x, y)
    assert last < 1e-3 * first


def test_blocks_of_pictures_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y = problem()
    net, x, y = net.double(), x.double(), y.double()
    optimiser = LevenbergMarquardt(net, loss("all"), 2)
    whole = optimiser.normal_equations(x, y)
    monkeypatch.setattr(levenberg, "_BLOCK_BYTES", 1)
    for part, expected in zip(optimiser.normal_equations(x, y), whole, strict=True):
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize("name", ["l1", "l2", "lc", "all"])
def test_every_loss_falls(name: str) -> None:
    net, x, y = problem()
    optimiser = LevenbergMarquardt(net, loss(name), 2)
    losses = [optimiser.step(x, y).item() for _ in range(30)]
    assert losses[-1] < losses[0] / 20
    assert all(b <= a for a, b in itertools.pairwise(losses))


def test_a_step_that_cannot_help_changes_nothing() -> None:
    net, x, _ = problem()
    y = net(x).detach()
    before = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    LevenbergMarquardt(net, loss("l2"), 2).step(x, y)
    assert torch.equal(nn.utils.parameters_to_vector(net.parameters()).detach(), before)


def test_a_loss_that_rewards_errors_is_refused() -> None:
    net, x, y = problem()
    optimiser = LevenbergMarquardt(net, lambda a, b: -(a - b).square().mean(), 2)
    with pytest.raises(ConfigError, match="grows with the error"):
        optimiser.step(x, y)


def test_a_scale_without_effect_does_not_drift() -> None:
    """Where the output is divided by its maximum, weights of 1e10 would do as well."""
    values = SMALL | {
        "num_layers": 2,
        "stem": 0,
        "head": "sum",
        "bias": False,
        "output_norm": "max",
    }
    pair = values | {"kernel_size": ["3x1", "1x3"], "activation": ["none", "abs"]}
    torch.manual_seed(0)
    teacher = build_model(pair | {"activation": ["none", "square"], "output_activation": "sqrt"})
    net = build_model(pair).eval()
    optimiser = LevenbergMarquardt(net, loss("l2"), 2)
    for _ in range(80):
        x = torch.rand(4, 3, 12, 12)
        optimiser.step(x, teacher(x).detach())
    assert all(parameter.detach().abs().max() < 1000 for parameter in net.parameters())


def test_a_diverged_network_is_said_to_be() -> None:
    net = build_model(FORMS[0][1])
    with torch.no_grad():
        net.prep.weight.fill_(torch.nan)
    optimiser = LevenbergMarquardt(net, loss("l2"), 2)
    assert optimiser.step(torch.rand(1, 3, 12, 12), torch.rand(1, 1, 12, 12)).isnan()
