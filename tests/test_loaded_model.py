"""What a user may do with a loaded model: all that torch can do with a module, also in training."""

import copy
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import clapp
from clapp.config import load_config
from clapp.training.folder import save_config, save_weights

# torch's own: its compiler and its tracer warn of their old parts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def model(tmp_path: Path) -> nn.Module:
    config = load_config(overrides=["model.activation=gelu", "model.padding=reflect"])
    torch.manual_seed(0)
    save_config(tmp_path, config)
    save_weights(tmp_path, clapp.build_model(config.model))
    return clapp.load(tmp_path).train()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(model(x).square().mean(), list(model.parameters())))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile(model: nn.Module, x: Tensor, backend: str) -> None:
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    for ours, exact in zip(gradients(compiled, x), gradients(model, x), strict=True):
        torch.testing.assert_close(ours, exact)


def test_export(model: nn.Module, x: Tensor) -> None:
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


def test_tracing(model: nn.Module, x: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, (x,), check_trace=False)
    assert "conv" in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), model(x))


def test_functions_of_its_parameters(model: nn.Module, x: Tensor) -> None:
    values = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, values, (x,)).square().mean()

    slopes = torch.func.grad(loss)(values, x)
    forwards = torch.func.jacfwd(loss)(values, x)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(values, x[:, None])
    for name, exact in zip(values, gradients(model, x), strict=True):
        for found in (slopes[name], forwards[name], each[name].mean(0)):
            torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-6)


def test_second_derivatives(model: nn.Module) -> None:
    x = torch.rand(1, 3, 12, 12, dtype=torch.float32, requires_grad=True)
    (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    penalty = slope.square().sum()
    found = torch.autograd.grad(penalty, x)[0]
    assert found.isfinite().all()
    assert found.abs().max() > 0


def test_copies(model: nn.Module, x: Tensor) -> None:
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.training
        assert torch.equal(other(x), model(x))


class Filtered(Dataset[Tensor]):
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.model(torch.full((1, 3, 16, 16), (index + 1) / 2))[0]


def test_in_the_workers_of_a_loader(model: nn.Module) -> None:
    filtered = Filtered(model)
    loader = DataLoader(filtered, num_workers=1, multiprocessing_context="spawn")
    found = list(loader)
    assert len(found) == 2
    for index, one in enumerate(found):
        torch.testing.assert_close(one[0], filtered[index])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision(model: nn.Module, x: Tensor, kind: torch.dtype) -> None:
    exact = model(x)
    y = copy.deepcopy(model).to(kind)(x.to(kind))
    assert y.dtype == kind
    assert (y.float() - exact).abs().max() < 0.1 * max(1.0, float(exact.detach().abs().max()))
    y.float().mean().backward()
    with torch.autocast("cpu", torch.bfloat16):
        model(x).float().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
