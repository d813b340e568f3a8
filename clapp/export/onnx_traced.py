"""Networks of families without a graph, written as ONNX by torch's own exporter."""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import torch
from torch import Tensor, nn

from clapp.config import ModelConfig
from clapp.errors import UserError
from clapp.export.options import MOST_OPSET, Options
from clapp.filters.learned.settings import Setting
from clapp.models.graph.nodes import IMAGE, OUTPUT
from clapp.models.networks.adjustable import Joined

_DIMENSIONS = {0: "batch", 2: "height", 3: "width"}


def traced(
    model: nn.Module, config: ModelConfig, options: Options, settings: Sequence[Setting] = ()
) -> onnx.ModelProto:
    """The ONNX model of a network, checked.

    Args:
        model: on the CPU, in eval mode.

    Raises:
        UserError: an opset that torch does not write.
    """
    if options.opset not in (None, MOST_OPSET):
        raise UserError(
            f"--opset {options.opset}: networks of the family {config.family} can be written in "
            f"opset {MOST_OPSET} alone"
        )
    # Two pictures of odd, unequal sides: the exporter would take 0, 1 or equal sizes for constants.
    channels = config.input_channels - len(settings)
    sides = (2, channels, 67, 45)
    if options.size is not None:
        sides = (1, channels, *options.size)
    example = torch.zeros(sides, dtype=torch.uint8 if options.uint8 else torch.float32)
    values = [torch.full((sides[0],), setting.low) for setting in settings]
    shapes = None
    if options.size is None:
        each = tuple({0: "batch"} for _ in settings)
        shapes = (_DIMENSIONS, each) if settings else (_DIMENSIONS,)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Prepared(Joined(model, settings), options.uint8),
            (example, *values),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[IMAGE, *(setting.name for setting in settings)],
            output_names=[OUTPUT],
            opset_version=MOST_OPSET,
            verbose=False,
        )
    assert program is not None  # it is, with dynamo
    proto = program.model_proto
    _strip(proto, free=options.size is None)
    onnx.checker.check_model(proto, full_check=True)
    return proto


class _Prepared(nn.Module):
    """The network with exact means, after the scaling of uint8 pictures."""

    def __init__(self, model: nn.Module, uint8: bool) -> None:
        super().__init__()
        self.model, self.uint8 = _with_exact_norm(model), uint8

    def forward(self, x: Tensor, *values: Tensor) -> Tensor:
        y: Tensor = self.model(x.float() / 255 if self.uint8 else x, *values)
        return y


class _ExactNorm(nn.Module):
    """GroupNorm with one group, its means taken axis by axis.

    ONNX Runtime's normalisation operators sum a whole picture in one float32: the error is 1e-5 at
    224x224 and 1e-3 at 2048x2048. Sums along rows are exact to 1e-6.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - _mean(x)  # (B, C, H, W)
        scale = self.weight[:, None, None] / torch.sqrt(_mean(centred * centred) + self.eps)
        return centred * scale + self.bias[:, None, None]


def _mean(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 1, 1, 1)."""
    return x.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)


def _with_exact_norm(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GroupNorm) and child.num_groups == 1:
                setattr(parent, name, _ExactNorm(child))
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's messages about its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(proto: onnx.ModelProto, *, free: bool) -> None:
    """Remove stack traces and types that readers can infer: nine tenths of the file."""
    graph = proto.graph
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.input, *graph.output, *graph.initializer, graph):
        del value.metadata_props[:]
    del graph.value_info[:]
    if free:  # the exporter may write the output's sides as formulas of the input's
        for axis, name in _DIMENSIONS.items():
            graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name
