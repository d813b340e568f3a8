"""TFLite files: what LiteRT and TFLite Micro compute with them, beside PyTorch."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clapp.errors import UserError
from clapp.export.formats import weights_of
from clapp.export.onnx import make_onnx, model_of
from clapp.export.onnx_int8 import Int8Writer
from clapp.export.options import Options
from clapp.export.tflite.flatbuffer import schema
from clapp.export.tflite.run import Micro, MicroError, run_litert
from clapp.export.tflite.steps import write_tflite
from clapp.models.build import Network, build_model
from clapp.models.graph.footprint import operators, steps_of
from clapp.training.int8.scales import Bits, Scale, calibrate, run_int8, scale_of
from tests.test_c_export import NETWORKS, OTHERS, PLAIN

ALL: dict[str, dict[str, Any]] = NETWORKS | {
    **{name: PLAIN | {"activation": name} for name in [*OTHERS, "tanh", "swish"]},
    "repeated border": PLAIN
    | {"activation": "relu", "stem": 3, "padding": "replicate", "kernel_size": 5},
}
SIZES = [(37, 62), (24, 25)]


def network(values: dict[str, Any]) -> Network:
    torch.manual_seed(0)
    return build_model(values).eval()


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    from skimage.data import astronaut

    picture = torch.from_numpy(astronaut()[:200, 100:300].copy())
    return picture.permute(2, 0, 1)[None] / 255


def parts(photograph: torch.Tensor, least: int) -> list[torch.Tensor]:
    sizes = [*SIZES, (max(least, 2), max(least, 2) + 1)]
    return [photograph[:, :, 50 : 50 + h, 40 : 40 + w].contiguous() for h, w in sizes]


def has_gelu(model: Network) -> bool:
    return "Erf" in operators(steps_of(model.config))


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_floats_equal_pytorch(name: str, photograph: torch.Tensor) -> None:
    model = network(ALL[name])
    graph, weights = steps_of(model.config), weights_of(model)
    for number, image in enumerate(parts(photograph, model.min_size)):
        height, width = image.shape[2:]
        sliced, uint8 = number == 1, number != 0
        content = write_tflite(graph, weights, (height, width), sliced=sliced, uint8=uint8)
        expected = model(image).numpy()
        largest = max(1.0, float(np.abs(expected).max()))
        assert np.abs(run_litert(content)(image.numpy()) - expected).max() < 2e-5 * largest
        if has_gelu(model):
            with pytest.raises(MicroError, match="Didn't find op for builtin opcode 'GELU'"):
                Micro(content, height * width)
            continue
        micro = Micro(content, height * width)
        assert np.abs(micro(image.numpy()) - expected).max() < 2e-5 * largest
        assert 4 * 3 * height * width < micro.arena() < 4 * 200 * max(height * width, 64)


@torch.no_grad()
def test_a_wide_network_gets_the_arena_it_needs(photograph: torch.Tensor) -> None:
    """Its values take more bytes than are lent at first for a picture of this size."""
    model = network(PLAIN | {"capacity": 96, "num_layers": 2, "activation": "relu"})
    graph, weights = steps_of(model.config), weights_of(model)
    image = photograph[:, :, :120, :120].contiguous()
    micro = Micro(write_tflite(graph, weights, (120, 120)), 120 * 120)
    assert np.abs(micro(image.numpy()) - model(image).numpy()).max() < 1e-4
    assert micro.arena() > 4 * 96 * 120 * 120


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_integers_are_what_their_loss_is_measured_with(
    name: str, bits: Bits, photograph: torch.Tensor
) -> None:
    model = network(ALL[name])
    graph, state = steps_of(model.config), model.state_dict()
    scales = calibrate(graph, state, photograph, bits)
    # One value more is rounded in a scaled skip and in tanh, and LiteRT rounds enlarged ones up. In
    # 16 bits the errors of many layers in a row are larger than the last step.
    step = scales["output"].step * (1 if bits == 8 else 2)
    for image in parts(photograph, model.min_size)[:2]:
        height, width = image.shape[2:]
        content = write_tflite(graph, weights_of(model), (height, width), scales)
        ours = run_int8(graph, state, scales, image).numpy()
        error = float(np.abs(ours - model(image).numpy()).mean())
        runs: list[Any] = [run_litert(content)]
        if not has_gelu(model):
            runs.append(Micro(content, height * width))
        for run in runs:
            difference = float(np.abs(run(image.numpy()) - ours).mean())
            assert difference <= max(0.1 * error, 0.6 * step), run


@torch.no_grad()
def test_16_bits_lose_less_and_onnx_says_the_same(photograph: torch.Tensor) -> None:
    import onnxruntime

    model = network(NETWORKS["59"])
    graph, state = steps_of(model.config), model.state_dict()
    image = parts(photograph, 2)[0]
    exact = model(image)
    losses = []
    bits: Bits
    for bits in (8, 16):
        scales = calibrate(graph, state, photograph, bits)
        losses.append(float((run_int8(graph, state, scales, image) - exact).square().mean()))
    assert losses[1] < losses[0] / 20
    writer = Int8Writer(graph, weights_of(model), scales, Options())
    proto = model_of(writer, graph, Options())
    assert proto.opset_import[0].version == 21
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    found = session.run(None, {"image": image.numpy()})[0]
    ours = run_int8(graph, state, scales, image).numpy()
    assert np.abs(found - ours).mean() < 2 * scales["output"].step


def test_scales_of_16_bits_keep_pictures_exactly() -> None:
    assert scale_of(-1.0, 0.5, 16) == Scale(1 / 32767, 0, 16)
    graph = steps_of(network(PLAIN).config)
    scale = calibrate(graph, network(PLAIN).state_dict(), torch.rand(1, 3, 9, 9), 16)["image"]
    levels = torch.arange(256) / 255 / scale.step
    assert torch.allclose(levels, levels.round(), atol=2e-3)
    assert levels.max() < scale.high


@pytest.mark.parametrize("bits", [None, 8, 16])
@torch.no_grad()
def test_uint8_pictures(bits: Bits | None, photograph: torch.Tensor) -> None:
    model = network(NETWORKS["31 separable"])
    graph, state, weights = steps_of(model.config), model.state_dict(), weights_of(model)
    scales = None if bits is None else calibrate(graph, state, photograph, bits)
    image = parts(photograph, 3)[0].numpy()
    size = image.shape[2:]
    plain = Micro(write_tflite(graph, weights, size, scales), 37 * 62)(image)
    content = write_tflite(graph, weights, size, scales, uint8=True, said="sobel")
    assert np.abs(Micro(content, 37 * 62)(image) - plain).max() < 1e-6
    model_read = schema().ModelT.InitFromObj(schema().Model.GetRootAs(content))
    assert model_read.description == b"sobel"
    first = model_read.subgraphs[0].tensors[model_read.subgraphs[0].inputs[0]]
    assert first.type == schema().TensorType.UINT8
    assert list(first.shape) == [1, 37, 62, 3]


def test_constants_lie_at_multiples_of_16() -> None:
    model = network(NETWORKS["31 separable"])
    content = write_tflite(steps_of(model.config), weights_of(model), (9, 9))
    read = schema().Model.GetRootAs(content)
    found = 0
    for number in range(read.BuffersLength()):
        data = read.Buffers(number).DataAsNumpy()
        if isinstance(data, np.ndarray):
            start = (
                data.__array_interface__["data"][0]
                - np.frombuffer(content, np.uint8).__array_interface__["data"][0]
            )
            assert start % 16 == 0
            found += 1
    assert found > 4


@pytest.mark.parametrize("padding", ["reflect", "replicate"])
@torch.no_grad()
def test_borders_by_slices(padding: str, photograph: torch.Tensor) -> None:
    import onnxruntime

    model = network(NETWORKS["59"] | {"padding": padding})
    graph, weights = steps_of(model.config), weights_of(model)
    content = write_tflite(graph, weights, (37, 62), sliced=True)
    read = schema().Model.GetRootAs(content)
    codes = {read.OperatorCodes(n).BuiltinCode() for n in range(read.OperatorCodesLength())}
    known = schema().BuiltinOperator
    assert known.MIRROR_PAD not in codes
    assert {known.SLICE, known.CONCATENATION} <= codes
    options = Options(target="edgetpu")
    proto = make_onnx(graph, weights, options)
    assert "Pad" not in {node.op_type for node in proto.graph.node}
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for image in parts(photograph, model.min_size):
        found = session.run(None, {"image": image.numpy()})[0]
        assert np.abs(found - model(image).numpy()).max() < 2e-5


def test_without_litert(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    model = network(PLAIN)
    with pytest.raises(UserError, match=r"--format tflite: the package ai-edge-litert is missing"):
        write_tflite(steps_of(model.config), weights_of(model), (9, 9))
