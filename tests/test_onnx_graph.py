"""The ONNX graph itself: its operators, sizes, opsets, and the kind of its input."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from clapp.commands.app import app
from clapp.errors import UserError
from clapp.export.formats import weights_of
from clapp.export.onnx import make_onnx, parity, write_onnx
from clapp.export.options import Options, check_options, parse_size
from clapp.inference.evaluate import evaluate
from clapp.models.build import Network, build_model
from clapp.models.graph.footprint import steps_of

PLAIN = {"norm": "none", "rezero": False, "reskip": False, "stem": 1, "num_layers": 1}
EDGES = PLAIN | {
    "capacity": 2,
    "kernel_size": 5,
    "activation": "square",
    "padding": "reflect",
    "output_activation": "sqrt",
    "output_norm": "max",
}
NETWORKS: dict[str, dict[str, Any]] = {
    "edges": EDGES,
    "whole rows": PLAIN
    | {"num_layers": 2, "stem": 0, "kernel_size": ["1x5", "5x1"], "capacity": [3, 6]}
    | {"depthwise": [True, True], "activation": ["none", "max3"], "bias": False, "head": "sum"},
    "small minimum": PLAIN | {"activation": "min3", "padding": "replicate", "dilation": 2},
    "maximum of a padded value": PLAIN | {"activation": "max3"},
    "normalised": {"capacity": 3, "num_layers": 2, "flip_conv_norm": False, "activation": "gelu"},
    "shared": {"capacity": 2, "num_layers": 3, "shared_weights": True, "activation": "swish"},
    "half": {"capacity": 3, "num_layers": 1, "downsample": 2, "separable": True},
    "two out": PLAIN | {"output_channels": 2, "capacity": 2, "output_norm": "max", "stem": 0},
    "unet": {"family": "unet", "width": 2, "depth": 2},
    "guided": {"family": "guided", "width": 2, "guide": 2, "output_channels": 2},
    "guided by the picture": {"family": "guided", "factor": 8, "width": 2, "depth": 1},
    "global": {"family": "global", "width": 2, "hidden": 3, "activation": "leaky_relu"},
}
OPSETS = range(11, 19)


def network(name: str) -> Network:
    torch.manual_seed(0)
    model = build_model(NETWORKS[name]).eval()
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.05 * torch.randn_like(values))
    return model


def made(name: str, options: Options) -> onnx.ModelProto:
    model = network(name)
    return make_onnx(steps_of(model.config), weights_of(model), options)


def operators(name: str, options: Options) -> list[str]:
    return [node.op_type for node in made(name, options).graph.node]


def levels(*shape: int) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    return pixels.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_opset_gives_the_same_picture(name: str, tmp_path: Path) -> None:
    model = network(name)
    least = model.min_size
    for opset in OPSETS:
        path = tmp_path / f"{opset}.onnx"
        write_onnx(model, path, {}, Options(opset=opset))
        assert onnx.load(path).opset_import[0].version == opset
        assert parity(model, path, [levels(2, 3, 40, 33), levels(1, 3, least, least + 2)]) < 2e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_no_tensor_has_more_than_four_dimensions(name: str) -> None:
    proto = onnx.shape_inference.infer_shapes(made(name, Options(size=(32, 24))), strict_mode=True)
    values = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in values]
    assert all(len(shape) <= 4 for shape in shapes)
    assert all(side > 0 for shape in shapes for side in shape)  # nothing is left open
    assert not {"Shape", "Constant", "Reshape"} & {node.op_type for node in proto.graph.node}


def test_abs_and_relu_stand_only_where_a_value_may_be_negative() -> None:
    assert "Abs" not in operators("edges", Options())
    assert operators("two out", Options()).count("Abs") == 1
    model = network("edges")
    graph, weights = steps_of(model.config), weights_of(model)
    weights["post.weight"] = np.abs(weights["post.weight"])
    weights["post.bias"] = np.abs(weights["post.bias"])
    kept = [node.op_type for node in make_onnx(graph, weights, Options()).graph.node]
    assert "Relu" not in kept  # a sum of squares
    weights["post.weight"] = -weights["post.weight"]
    assert "Relu" in [node.op_type for node in make_onnx(graph, weights, Options()).graph.node]


@pytest.mark.parametrize("name", NETWORKS)
def test_uint8_pictures_of_one_size(name: str, tmp_path: Path) -> None:
    model, path = network(name), tmp_path / "m.onnx"
    write_onnx(model, path, {}, Options(size=(24, 37), uint8=True))
    assert parity(model, path, [levels(1, 3, 24, 37)]) < 2e-5
    properties = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert json.loads(properties["input"]) == {
        "name": "image",
        "type": "uint8",
        "layout": "(1, 3, 24, 37)",
        "range": [0, 255],
    }


def test_scaling_lies_in_the_first_convolution_where_that_is_the_only_one_to_see_it() -> None:
    assert operators("edges", Options(uint8=True)).count("Mul") == 1  # the square
    skip = PLAIN | {"stem": 0, "capacity": 3, "rezero": True, "activation": "relu"}
    model = build_model(skip).eval()
    proto = make_onnx(steps_of(model.config), weights_of(model), Options(uint8=True))
    assert [node.op_type for node in proto.graph.node][:2] == ["Cast", "Mul"]


def test_a_uint8_file_is_evaluated_like_any(tmp_path: Path) -> None:
    model = network("edges")
    write_onnx(model, tmp_path / "a.onnx", {"filter": '"sobel_3"'})
    write_onnx(model, tmp_path / "b.onnx", {"filter": '"sobel_3"'}, Options(uint8=True))
    a, b = (evaluate(tmp_path / f"{n}.onnx", "photos:validation") for n in "ab")
    assert a.l2 == pytest.approx(b.l2, rel=1e-4)


@pytest.mark.parametrize("text", ["224", "224x", "axb", "224x224x3", "-1x5"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"--size {text}: not a size; allowed: HEIGHTx")):
        parse_size(text)


def test_options_out_of_range() -> None:
    assert parse_size("12x345") == (12, 345)
    for opset in (0, 10, 19):
        with pytest.raises(UserError, match=rf"--opset {opset}: allowed: 11 to 18"):
            check_options(Options(opset=opset), 1)
    with pytest.raises(UserError, match="--size 4x9: sides of at least 5 pixels are needed"):
        check_options(Options(size=(4, 9)), 5)


def test_a_wrong_size_is_one_line(tmp_path: Path) -> None:
    arguments = ["export", "nothing", "--size", "12", "--results", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith("--size 12: not a size")
