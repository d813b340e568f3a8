"""A filter, a loss and an activation from outside the package, through the public registries."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import clapp
from clapp.export.onnx import parity, write_onnx
from clapp.filters.base import FILTERS
from clapp.models.activations import ACTIVATIONS
from clapp.models.words import model_in_words
from clapp.training.losses import LOSSES


@pytest.fixture
def registered() -> Iterator[None]:
    @clapp.register_filter("brighter")
    def brighter(image: np.ndarray) -> np.ndarray:
        return cv2.convertScaleAbs(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), beta=20)

    @clapp.register_loss("quartic")
    def quartic(prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).pow(4).mean()

    clapp.register_activation(clapp.Activation("softsign", torch.nn.functional.softsign, "soft"))
    yield
    ACTIVATIONS.remove("softsign")
    FILTERS.remove("brighter")
    LOSSES.remove("quartic")


@pytest.mark.parametrize("optimizer", ["adam", "lm"])
def test_a_training_uses_both(registered: None, optimizer: str) -> None:
    values: dict[str, Any] = {
        "model": {"capacity": 1, "num_layers": 1, "kernel_size": 1, "norm": "none"},
        "train_data": {"target_filter": "brighter", "crop_size": 16, "min_buffer": 4},
        "valid_data": {"num_images": 2, "crop_size": 48},
        "train": {
            "device": "cpu",
            "loss_type": "quartic",
            "optimizer": optimizer,
            "max_iterations": 200,
            "min_iterations": 0,
            "learning_rate": 0.05,
        },
    }
    result = clapp.train(clapp.load_config(values))
    assert result.curve[-1].l2 < 0.02
    white = np.full((8, 8, 3), 100, np.uint8)
    assert (clapp.apply_filter("brighter", white) == 120).all()


def test_an_activation_is_trained_said_and_exported(registered: None, tmp_path: Path) -> None:
    model = {"capacity": 2, "num_layers": 2, "activation": ["softsign", "none"], "norm": "none"}
    net = clapp.build_model(model).eval()
    assert "soft then no activation" in model_in_words(net.config)
    picture = torch.rand(1, 3, 20, 30)
    assert pickle.loads(pickle.dumps(net))(picture).equal(net(picture))
    write_onnx(net, tmp_path / "net.onnx", {})
    assert parity(net, tmp_path / "net.onnx", [picture.numpy()]) < 1e-5
