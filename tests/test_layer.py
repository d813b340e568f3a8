"""A loaded model is a plain module: in batches, compiled, pickled, fine-tuned, as a loss."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clapp.config import load_config
from clapp.models.build import Network, build_model
from clapp.training.folder import load, save_config, save_weights
from tests.test_c_export import NETWORKS

NAMES = ["59", "23 no bias, sum", "dilate", "reference", "half", "skips"]


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A model as it comes out of an export's folder."""
    folder: Path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = load_config({"model": NETWORKS[request.param]})
    save_config(folder, config)
    save_weights(folder, build_model(config.model))
    return load(folder)


@torch.no_grad()
def test_pictures_of_a_batch_do_not_mix(model: Network) -> None:
    batch = torch.rand(3, 3, 33, 40)
    alone = torch.cat([model(picture[None]) for picture in batch])
    assert torch.allclose(model(batch), alone, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
@torch.no_grad()
def test_half_precision(model: Network, kind: torch.dtype) -> None:
    import copy

    batch = torch.rand(2, 3, 32, 32)
    half = copy.deepcopy(model).to(kind)(batch.to(kind))
    assert half.dtype == kind
    assert half.isfinite().all()
    exact = model(batch)
    assert (half.float() - exact).abs().mean() < 0.1 * exact.abs().mean() + 0.02


@torch.no_grad()
def test_compiled_and_exported(model: Network) -> None:
    batch = torch.rand(2, 3, 32, 40)
    # The whole graph without a break; code generation is torch's own concern.
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(batch), model(batch), atol=1e-6)
    program = torch.export.export(model, (batch,))
    assert torch.allclose(program.module()(batch), model(batch), atol=1e-6)


class Filtered(Dataset[Tensor]):
    """Pictures that pass through a model in the worker's process."""

    def __init__(self, model: Network) -> None:
        self.model = model

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> Tensor:
        torch.manual_seed(number)
        with torch.no_grad():
            return self.model(torch.rand(1, 3, 16, 16))[0]


def test_pickled_into_the_workers_of_a_data_loader(model: Network) -> None:
    again = pickle.loads(pickle.dumps(model))
    data = Filtered(model)
    with torch.no_grad():
        batch = torch.rand(1, 3, 20, 20)
        assert torch.equal(again(batch), model(batch))
    loader = DataLoader(data, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    assert torch.allclose(torch.cat(list(loader)), torch.stack([data[n] for n in range(4)]))


def test_fine_tuning(model: Network) -> None:
    again = pickle.loads(pickle.dumps(model)).train()
    weights = list(again.parameters())
    if not weights:
        pytest.skip("it has no weights")
    torch.manual_seed(0)
    batch = torch.rand(4, 3, 24, 24)
    target = batch.mean(1, keepdim=True)
    adam = torch.optim.Adam(weights, lr=1e-3)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.mse_loss(again(batch), target)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert min(losses[10:]) < losses[0]


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_gradients_are_finite_on_flat_pictures(model: Network, level: float) -> None:
    """Black ones too: a root and a division by the maximum have no slope of their own there."""
    picture = torch.full((1, 3, 24, 24), level, requires_grad=True)
    total: Any = model(picture).square().mean()
    total.backward()
    assert picture.grad is not None
    assert picture.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad()
