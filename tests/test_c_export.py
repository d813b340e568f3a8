"""The C export: what it computes beside ONNX Runtime, its memory, its errors."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clapp.export.c.compiled import CompilerError, compile_c, footprint, load_c
from clapp.export.c.header import Code, identifier
from clapp.export.c.source import write_c
from clapp.export.formats import weights_of
from clapp.export.onnx import write_onnx
from clapp.export.options import Options
from clapp.inference.runner import open_session
from clapp.models.build import Network, build_model
from clapp.models.graph.footprint import steps_of

PLAIN: dict[str, Any] = {
    "norm": "none",
    "rezero": False,
    "reskip": False,
    "stem": 1,
    "num_layers": 1,
    "capacity": 2,
}
TWO = PLAIN | {"num_layers": 2, "activation": ["none", "square"], "padding": "reflect"}
ENDS = {"output_activation": "sqrt", "output_norm": "max"}
# The networks of the table in docs/searching.md, and one of every other kind of step.
NETWORKS: dict[str, dict[str, Any]] = {
    "59": PLAIN | ENDS | {"kernel_size": 5, "activation": "square", "padding": "reflect"},
    "31 separable": TWO
    | ENDS
    | {"capacity": [2, 2], "kernel_size": ["1x5", "5x1"], "depthwise": [False, True]},
    "23 no bias, sum": TWO
    | ENDS
    | {"capacity": [2, 2], "kernel_size": ["1x5", "5x1"], "depthwise": [False, True]}
    | {"bias": False, "head": "sum"},
    "dilate": PLAIN | {"stem": 0, "capacity": 3, "kernel_size": 1, "activation": "max3"},
    "clip": PLAIN | {"activation": "abs", "output_activation": "clip"},
    "sigmoid": PLAIN | {"activation": "max3", "output_activation": "sigmoid"},
    "erode, no stem": PLAIN
    | {"stem": 0, "capacity": 6, "depthwise": True, "activation": "min3", "head": "sum"},
    "reference": {"num_layers": 2, "capacity": 4},
    "skips": PLAIN | {"rezero": True, "reskip": True, "stem": 2, "padding": "zero", "dilation": 2},
    "skip of the picture": PLAIN | {"stem": 0, "capacity": 3, "rezero": True, "activation": "relu"},
    "half": PLAIN | {"downsample": 2, "separable": True, "activation": "tanh", "stem": 3},
    "shared, normalised after": {"capacity": 2, "num_layers": 3, "shared_weights": True}
    | {"flip_conv_norm": False, "padding": "replicate", "activation": "gelu"},
    "two results": PLAIN | {"output_channels": 2, "output_norm": "max", "activation": "swish"},
    "unet": {"family": "unet", "width": 2, "depth": 2},
    "u2net": {"family": "u2net", "width": 2, "inner": 1, "depth": 1, "height": 1},
    "guided": {"family": "guided", "width": 2, "guide": 2, "output_channels": 2},
    "guided by the picture": {"family": "guided", "factor": 8, "width": 2, "depth": 1},
    "global": {"family": "global", "width": 2, "hidden": 3, "activation": "leaky_relu"},
}
OTHERS = ["leaky_relu", "squared_relu", "sigmoid", "clip", "abs"]


def network(values: dict[str, Any]) -> Network:
    torch.manual_seed(0)
    model = build_model(values).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    return model


def code_of(model: Network, *, uint8: bool = False) -> Code:
    graph = steps_of(model.config)
    return write_c(graph, weights_of(model), "net", "a network", model.min_size, uint8=uint8)


def written(code: Code, folder: Path) -> Path:
    (folder / "model.h").write_text(code.header)
    (folder / "model.c").write_text(code.source)
    return folder


def levels(height: int, width: int) -> np.ndarray:
    pixels = np.random.default_rng(height).integers(0, 256, (1, 3, height, width))
    return pixels.astype(np.float32) / np.float32(255)


def assert_equal_to_onnx_runtime(values: dict[str, Any], folder: Path, *, uint8: bool) -> None:
    model = network(values)
    code = code_of(model, uint8=uint8)
    library = compile_c(written(code, folder), folder / "model.so")
    apply = load_c(library, code, uint8=uint8)  # sees that nothing is written beside the workspace
    write_onnx(model, folder / "model.onnx", {}, Options())
    session = open_session(folder / "model.onnx")
    least = model.min_size
    for height, width in ((64, 48), (37, 61), (least, least + 1)):
        image = levels(height, width)
        expected = session.run(None, {"image": image})[0]
        largest = max(1.0, float(np.abs(expected).max()))
        assert np.abs(apply(image) - expected).max() < 2e-5 * largest, (height, width)


@pytest.mark.parametrize("name", NETWORKS)
def test_c_equals_onnx_runtime(name: str, tmp_path: Path) -> None:
    assert_equal_to_onnx_runtime(NETWORKS[name], tmp_path, uint8=name in ("59", "skips"))


@pytest.mark.parametrize("activation", OTHERS)
def test_every_other_activation(activation: str, tmp_path: Path) -> None:
    assert_equal_to_onnx_runtime(PLAIN | {"activation": activation}, tmp_path, uint8=False)


def test_memory_is_a_few_lines_and_what_the_header_says(tmp_path: Path) -> None:
    code = code_of(network(NETWORKS["59"]))
    # Five lines of the grey picture with two pixels left and right, and two lines of responses.
    assert code.ram(224) == 4 * (5 * (224 + 4) + 2 * 224)
    assert "((size_t)(width) * 7 + 20)" in code.header
    assert code.weight_bytes == 4 * 59
    assert code.plan.passes == 1
    # A normalisation of the whole picture is a pass more; no value is kept whole.
    normed = code_of(network(NETWORKS["reference"]))
    assert normed.plan.passes == 3
    assert normed.ram(224) < 4 * 224 * 50


def test_nothing_is_allocated_or_printed(tmp_path: Path) -> None:
    for values in NETWORKS.values():
        source = code_of(network(values)).source
        assert "malloc" not in source
        assert "stdio" not in source


def test_a_small_picture_is_refused(tmp_path: Path) -> None:
    model = network(NETWORKS["59"])
    code = code_of(model)
    library = compile_c(written(code, tmp_path), tmp_path / "model.so")
    run = ctypes.CDLL(str(library)).net_run
    assert model.min_size == 3
    assert run(None, 2, 50, None, None) == run(None, 50, 2, None, None) == -1
    with pytest.raises(ValueError, match="refuses 2x50"):
        load_c(library, code, uint8=False)(levels(50, 2))


def test_warnings_are_errors(tmp_path: Path) -> None:
    code = code_of(network(NETWORKS["59"]))
    broken = code._replace(source=code.source + "\nstatic int unused(void) { return 1; }\n")
    with pytest.raises(CompilerError, match="unused"):
        compile_c(written(broken, tmp_path), tmp_path / "model.so")


def test_writing_beside_the_workspace_is_noticed(tmp_path: Path) -> None:
    code = code_of(network(NETWORKS["59"]))
    library = compile_c(written(code, tmp_path), tmp_path / "model.so")
    short = code._replace(space=code.space._replace(rest=code.space.rest - 8))
    with pytest.raises(CompilerError, match="outside of its workspace"):
        load_c(library, short, uint8=False)(levels(20, 31))


def test_footprint_counts_code_and_constants(tmp_path: Path) -> None:
    small = footprint(written(code_of(network(NETWORKS["59"])), tmp_path))
    large = footprint(written(code_of(network(PLAIN | {"capacity": 64})), tmp_path))
    assert small is not None
    assert large is not None
    assert 4 * 59 < small.flash < large.flash
    assert large.flash > 4 * 64 * 9
    assert 100 < small.stack < 2000


def test_names_for_c() -> None:
    assert identifier("sobel_3") == "sobel_3"
    assert identifier("kernel 2x2") == "kernel_2x2"
    assert identifier("module:Fünf") == "module_f_nf"
    assert identifier("3 times") == "filter_3_times"
