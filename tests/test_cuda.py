"""Training, inference and export on a CUDA device, compared with the same on the processor."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_model import FORMS

from clapp.config import Config, load_config
from clapp.export.onnx import parity, write_onnx
from clapp.models.build import build_model
from clapp.models.families import known_families
from clapp.training.losses import loss
from clapp.training.optimisers.levenberg import LevenbergMarquardt
from clapp.training.trainer import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def config(device: str, optimizer: str, iterations: int = 400, **model: object) -> Config:
    return load_config(
        {
            "model": {"capacity": 4, "num_layers": 2, "kernel_size": 3} | model,
            "train_data": {"crop_size": 40, "resize_base": 64, "min_buffer": 4},
            "valid_data": {"crop_size": 48, "resize_base": 64, "num_images": 4},
            "train": {
                "device": device,
                "optimizer": optimizer,
                "batch_size": 6,
                "min_iterations": iterations,
                "max_iterations": iterations,
                "validation_interval": 100,
                "stop_l2_loss": None,
            },
        }
    )


@pytest.mark.parametrize("optimizer", ["adam", "lm"])
def test_a_training_gets_as_far_as_on_the_processor(optimizer: str) -> None:
    model = {"activation": "abs", "norm": "none"}
    here, there = (train(config(device, optimizer, **model)) for device in ("cpu", "cuda"))
    assert there.device.startswith("cuda")
    assert there.iterations == here.iterations
    assert np.isfinite(there.loss)
    # The first step differs by rounding alone; later ones drift apart.
    assert there.curve[0].l2 == pytest.approx(here.curve[0].l2, rel=0.5)
    assert 1 / 4 < there.loss / here.loss < 4


def test_the_same_seed_gives_nearly_the_same_network() -> None:
    one, two = (train(config("cuda", "lm", 200)) for _ in range(2))
    assert one.loss == pytest.approx(two.loss, rel=0.05)


@pytest.mark.parametrize(("parameters", "values"), FORMS)
def test_normal_equations_equal_those_of_the_processor(
    parameters: int, values: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    net = build_model(values)
    x, y = torch.rand(4, 3, 24, 24), torch.rand(4, 1, 24, 24)
    here = LevenbergMarquardt(net, loss("l2"), 8).normal_equations(x, y)
    there = LevenbergMarquardt(net.cuda(), loss("l2"), 8).normal_equations(x.cuda(), y.cuda())
    for ours, theirs in zip(here, there, strict=True):
        assert ours.shape[:1] in ((parameters,), ())
        size = float(ours.abs().max())
        torch.testing.assert_close(theirs.cpu(), ours, atol=1e-3 * size, rtol=0)


@pytest.mark.parametrize("family", known_families())
def test_every_family_gives_the_same_output(family: str) -> None:
    torch.manual_seed(1)
    net = build_model(load_config({"model": {"family": family}}).model).eval()
    x = torch.rand(2, 3, 64, 80)
    with torch.inference_mode():
        here, there = net(x), net.cuda()(x.cuda()).cpu()
    torch.testing.assert_close(there, here, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_mixed_precision_learns_too(precision: str) -> None:
    chosen = config("cuda", "adam", 300, activation="relu").with_train(precision=precision)
    result = train(chosen)
    assert result.curve[-1].l2 < result.curve[0].l2


def test_a_network_trained_there_is_exported_and_can_be_tuned_there(tmp_path: Path) -> None:
    model = train(config("cuda", "lm", 100)).model
    assert next(model.parameters()).device.type == "cpu"
    write_onnx(model, tmp_path / "model.onnx", {})
    picture = np.random.default_rng(0).random((1, 3, 40, 56), dtype=np.float32)
    assert parity(model, tmp_path / "model.onnx", [picture]) < 1e-4
    x = torch.rand(2, 3, 32, 32, device="cuda", requires_grad=True)
    model.cuda()(x).square().mean().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
