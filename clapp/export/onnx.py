"""Write a network as an ONNX file, and check that both compute the same."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from clapp.config import ModelConfig
from clapp.errors import ParityError
from clapp.export.formats import Bundle, weights_of
from clapp.export.onnx_int8 import Int8Writer
from clapp.export.onnx_steps import Writer
from clapp.export.onnx_traced import traced
from clapp.export.options import LEAST_OPSET, Options
from clapp.filters.learned.settings import Setting, read_settings, written
from clapp.inference.adjusted import feed
from clapp.inference.parts import GATHERED_PARTS, PARTS, parts_of
from clapp.inference.runner import open_session
from clapp.models.build import Network
from clapp.models.families import family_of
from clapp.models.graph.footprint import steps_or_reason
from clapp.models.graph.nodes import IMAGE, OUTPUT, Graph
from clapp.models.targets.rewrite import Fitted
from clapp.training.int8.scales import Scales

TOLERANCE = 1e-4


def write_onnx(
    model: Network,
    path: Path,
    metadata: Mapping[str, str],
    options: Options | None = None,
    steps: Fitted | None = None,
    settings: Sequence[Setting] = (),
) -> None:
    """Write `model` to `path`, with one input `image` and one output `output`.

    Args:
        model: on the CPU, in eval mode.
        metadata: properties stored in the file, in addition to those of `describe`.
        steps: the network as a target takes it; None: as it is.
        settings: channels behind the picture that become inputs of their own, by their names,
            float32 (1,) or (batch,), in their own units.

    The output is float32 (batch, 1, height, width) and not clamped. Unless the options say
    otherwise, the input is float32 (batch, 3, height, width) in [0, 1], and batch, height and width
    are free. The file has passed ONNX's checker and its strict shape inference.
    """
    options = options or Options()
    exported = family_of(model.config).exported(model)
    graph = steps_or_reason(model.config)
    if steps is not None:
        arrays = {name: value.numpy() for name, value in steps.state.items()}
        proto = make_onnx(steps.graph, arrays, options, settings)
    elif isinstance(graph, str):
        proto = traced(exported, model.config, options, settings)
    else:
        proto = make_onnx(graph, weights_of(exported), options, settings)
    properties = {**metadata, **describe(model.config, options, model.min_size, settings)}
    helper.set_model_props(proto, properties)
    onnx.save(proto, path)


def make_onnx(
    graph: Graph,
    weights: Mapping[str, NDArray[np.float32]],
    options: Options,
    settings: Sequence[Setting] = (),
) -> onnx.ModelProto:
    """The ONNX model of a graph, checked."""
    writer = Writer(graph, weights, options, options.opset or LEAST_OPSET, settings)
    return model_of(writer, graph, options)


def write_int8_onnx(
    bundle: Bundle, weights: Mapping[str, NDArray[np.float32]], scales: Scales, path: Path
) -> None:
    """Write the network in int8; see `clapp.export.onnx_int8`."""
    graph, options = bundle.fitted.graph, bundle.options
    settings = bundle.config.settings
    proto = model_of(Int8Writer(graph, weights, scales, options, settings), graph, options)
    described = describe(bundle.model.config, options, bundle.model.min_size, settings)
    helper.set_model_props(proto, {**bundle.properties, **described})
    onnx.save(proto, path)


def model_of(writer: Writer, graph: Graph, options: Options) -> onnx.ModelProto:
    """The ONNX model that a writer writes, checked."""
    writer.write()
    sides: tuple[Any, ...] = ("batch", "height", "width")
    if options.size is not None:
        sides = (1, *options.size)
    kind = TensorProto.UINT8 if options.uint8 else TensorProto.FLOAT
    inner = helper.make_graph(
        writer.nodes,
        "clapp",
        [
            _value(IMAGE, kind, sides, graph.input_channels - len(writer.settings)),
            *(_setting_value(setting, options) for setting in writer.settings),
        ],
        [_value(OUTPUT, TensorProto.FLOAT, sides, graph.output_channels)],
        [numpy_helper.from_array(v, k) for k, v in writer.initializers.items()],
    )
    opsets = [helper.make_opsetid("", writer.opset)]
    proto = helper.make_model(inner, opset_imports=opsets, producer_name="clapp")
    proto.ir_version = helper.find_min_ir_version_for(opsets)
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    return proto


def opset_of(path: Path) -> int:
    """The opset of an ONNX file."""
    return int(onnx.load(path, load_external_data=False).opset_import[0].version)


def _value(name: str, kind: int, sides: tuple[Any, ...], channels: int) -> onnx.ValueInfoProto:
    batch, height, width = sides
    value = helper.make_tensor_value_info(name, kind, [batch, channels, height, width])
    value.doc_string = "picture, RGB" if name == IMAGE else "filtered picture"
    return value


def _setting_value(setting: Setting, options: Options) -> onnx.ValueInfoProto:
    sides = ["values"] if options.size is None else [1]
    value = helper.make_tensor_value_info(setting.name, TensorProto.FLOAT, sides)
    value.doc_string = f"{setting.name}, {setting.allowed}: one value, or one a picture"
    return value


def describe(
    config: ModelConfig, options: Options, min_size: int, settings: Sequence[Setting] = ()
) -> dict[str, str]:
    """Input and output as properties of the file: name, type, layout, range."""
    batch, height, width = ("N", "H", "W") if options.size is None else (1, *options.size)
    image = {
        "name": IMAGE,
        "type": "uint8" if options.uint8 else "float32",
        "layout": f"({batch}, {config.input_channels - len(settings)}, {height}, {width})",
        "range": [0, 255] if options.uint8 else [0, 1],
    }
    output = {
        "name": OUTPUT,
        "type": "float32",
        "layout": f"({batch}, {config.output_channels}, {height}, {width})",
        "range": "not clamped; [0, 1] is black to white",
    }
    described = {
        "input": json.dumps(image),
        "output": json.dumps(output),
        "min_size": str(min_size),
    }
    if settings:
        described["parameter"] = written(settings)
    parts = None if options.size else parts_of(config, gathers=True)
    if parts is not None:
        local = parts_of(config, gathers=False) is not None
        described[PARTS if local else GATHERED_PARTS] = parts.write()
    return described


def parity(
    model: Callable[[torch.Tensor], torch.Tensor],
    path: Path,
    pictures: Sequence[NDArray[np.float32]],
    tolerance: float = TOLERANCE,
) -> float:
    """The largest absolute difference between PyTorch and ONNX Runtime over `pictures`.

    Args:
        pictures: each float32 (N, 3 + n, H, W) in [0, 1], whole levels of 255 where the file takes
            uint8; sizes may differ.

    Raises:
        ParityError: it exceeds the tolerance, or is not a number.
    """
    session = open_session(path)
    uint8 = session.get_inputs()[0].type == "tensor(uint8)"
    properties = session.get_modelmeta().custom_metadata_map
    settings = read_settings(properties.get("parameter"))
    worst = 0.0
    for batch in pictures:
        with torch.no_grad():
            expected = model(torch.from_numpy(batch)).numpy()
        given = feed(batch, settings, uint8=uint8)
        difference = float(np.abs(session.run(None, given)[0] - expected).max())
        if not difference <= tolerance:
            height, width = batch.shape[2:]
            raise ParityError(
                f"{path.name}: ONNX Runtime and PyTorch differ by {difference:.2g} on a picture of "
                f"{width}x{height}; at most {tolerance:g} is allowed"
            )
        worst = max(worst, difference)
    return worst
