"""A FilterNet as an ONNX file, and the proof that both compute the same."""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clapp.errors import ParityError
from clapp.inference.runner import open_session
from clapp.models.filternet import FilterNet

INPUT, OUTPUT = "image", "output"
TOLERANCE = 1e-4
_DIMENSIONS = {0: "batch", 2: "height", 3: "width"}


def write_onnx(model: FilterNet, path: Path, metadata: Mapping[str, str]) -> None:
    """Write `model` to `path` with one input and one output of free batch, height and width.

    Args:
        model: on the CPU, in eval mode.
        metadata: properties stored in the file.

    The input `image` is float32 (batch, 3, height, width) in [0, 1], the output `output` is
    float32 (batch, 1, height, width) and not clamped.
    """
    # Two pictures of odd, unequal sides: the exporter would take 0, 1 or equal sizes for constants.
    example = torch.zeros(2, model.config.input_channels, 67, 45)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _with_exact_norm(model),
            (example,),
            dynamo=True,
            dynamic_shapes=(_DIMENSIONS,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None  # it is, with dynamo
    proto = program.model_proto
    _strip(proto)
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def parity(model: FilterNet, path: Path, pictures: Sequence[NDArray[np.float32]]) -> float:
    """The largest absolute difference between PyTorch and ONNX Runtime over `pictures`.

    Args:
        pictures: each float32 (N, 3, H, W) in [0, 1]; sizes may differ.

    Raises:
        ParityError: it exceeds 1e-4, or is not a number.
    """
    session = open_session(path)
    worst = 0.0
    for batch in pictures:
        with torch.no_grad():
            expected = model(torch.from_numpy(batch)).numpy()
        difference = float(np.abs(session.run(None, {INPUT: batch})[0] - expected).max())
        if not difference <= TOLERANCE:
            height, width = batch.shape[2:]
            raise ParityError(
                f"{path.name}: ONNX Runtime and PyTorch differ by {difference:.2g} on a picture of "
                f"{width}x{height}; at most {TOLERANCE:g} is allowed"
            )
        worst = max(worst, difference)
    return worst


class _ExactNorm(nn.Module):
    """GroupNorm with one group, its means taken axis by axis.

    ONNX Runtime adds a whole picture up in one float32 when it runs a normalisation operator: the
    result is off by 1e-5 at 224x224 and by 1e-3 at 2048x2048. Sums along rows stay exact to 1e-6.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        assert norm.num_groups == 1
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - _mean(x)  # (B, C, H, W)
        scale = self.weight[:, None, None] / torch.sqrt(_mean(centred * centred) + self.eps)
        return centred * scale + self.bias[:, None, None]


def _mean(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 1, 1, 1)."""
    return x.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)


def _with_exact_norm(model: FilterNet) -> nn.Module:
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, _ExactNorm(child))
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about its own internals from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(proto: onnx.ModelProto) -> None:
    """Drop stack traces and types that a reader infers: nine tenths of the file."""
    graph = proto.graph
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.input, *graph.output, *graph.initializer, graph):
        del value.metadata_props[:]
    del graph.value_info[:]
    # With downsampling the exporter writes these as formulas of the input's sides.
    for axis, name in _DIMENSIONS.items():
        graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name
