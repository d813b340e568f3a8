"""Memory, weights in bytes and operators of a network, known before a training."""

from typing import Any

import numpy as np
import pytest
import torch

from clapp.config import model_config
from clapp.errors import ConfigError
from clapp.export.formats import weights_of
from clapp.export.onnx import make_onnx
from clapp.export.options import Options
from clapp.models.build import build_model
from clapp.models.graph.footprint import footprint, operators, peak_memory, steps_of, weight_bytes
from tests.test_c_export import NETWORKS, PLAIN

PIXELS = 224 * 224


def found(values: dict[str, Any]) -> tuple[int, int, tuple[str, ...]]:
    return footprint(model_config(values))


def test_memory_is_what_is_alive_at_once() -> None:
    plain = PLAIN | {"capacity": 4, "stem": 4, "padding": "zero", "activation": "relu"}
    # At the convolution: its input (4) and its output (4); the picture is needed no more.
    assert found(plain)[0] == 4 * PIXELS * 8
    assert found(plain | {"num_layers": 8})[0] == 4 * PIXELS * 8
    # A skip keeps the block's input while the block works on a normalised copy of it.
    skip = plain | {"rezero": True, "norm": "group", "flip_conv_norm": True}
    assert found(skip)[0] == 4 * PIXELS * 12
    # Convolved first and padded after: at the padding the smaller and the larger are alive.
    after = PLAIN | {"capacity": 4, "stem": 0, "padding": "zero_after", "kernel_size": 7}
    assert found(after)[0] == 4 * (4 * 218 * 218 + 4 * PIXELS)
    half = PLAIN | {"capacity": 4, "stem": 4, "padding": "zero", "downsample": 2}
    assert found(half)[0] == 4 * (3 * PIXELS + 3 * PIXELS // 4)  # the picture and half of it
    graph = steps_of(model_config(plain))
    assert peak_memory(graph, 10, 20, size=1) == 10 * 20 * 8


def test_memory_beside_every_tensor_of_onnx_runtime_s_graph() -> None:
    """No value of the written file is larger than the whole, and the largest two fit in it."""
    import onnx

    for values in NETWORKS.values():
        model = build_model(values)
        graph = steps_of(model.config)
        proto = make_onnx(graph, weights_of(model), Options(size=(224, 224)))
        inferred = onnx.shape_inference.infer_shapes(proto).graph.value_info
        shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred]
        assert peak_memory(graph) >= 4 * max(int(np.prod(shape)) for shape in shapes) * 0.95


@pytest.mark.parametrize("name", NETWORKS)
def test_operators_are_those_of_the_file(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(NETWORKS[name])
    graph = steps_of(model.config)
    proto = make_onnx(graph, weights_of(model), Options(size=(64, 64)))
    assert set(operators(graph)) == {node.op_type for node in proto.graph.node}


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_counted_once(name: str) -> None:
    model = build_model(NETWORKS[name])
    graph = steps_of(model.config)
    state = model.state_dict()
    kernels = [k for k, v in state.items() if k.endswith("weight") and v.ndim == 4]
    expected = sum(v.numel() * (1 if k in kernels else 4) for k, v in state.items())
    assert weight_bytes(graph) == expected


def test_a_family_that_does_not_say_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from clapp.models.activations import ACTIVATIONS, Activation, register_activation

    register_activation(Activation("halved", lambda x: x / 2, "half"))
    try:
        config = model_config({"activation": "halved"})
        with pytest.raises(ConfigError, match=r"family filternet: the steps of this"):
            footprint(config)
    finally:
        ACTIVATIONS.remove("halved")
