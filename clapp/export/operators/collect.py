"""Operators and constants of one ONNX graph, collected."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from clapp.export.options import Options
from clapp.models.graph.nodes import IMAGE, Graph

Array = NDArray[Any]


class Operators:
    """Collects the operators and constants of one ONNX graph.

    No tensor has more than four dimensions. Constants are computed here, so the file has no
    Constant nodes, and a file of fixed size computes no shapes.
    """

    def __init__(
        self, graph: Graph, weights: Mapping[str, Array], options: Options, opset: int
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self._graph, self._weights, self._options = graph, weights, options
        self.opset = opset

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add an operator with one output, and return the output's name."""
        name = output or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """The name of a constant; equal ones are stored once."""
        array = np.asarray(value, kind)
        for name, known in self.initializers.items():
            if known.dtype == array.dtype and np.array_equal(known, array):
                return name
        name = f"constant{len(self.initializers)}"
        self.initializers[name] = array
        return name

    def weight(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        """The name of a stored weight."""
        values = np.ascontiguousarray(self._weights[name])
        self.initializers[name] = values if shape is None else values.reshape(shape)
        return name

    def _sides(self) -> str:
        """The name of (height, width) of the picture."""
        shape, axis = self.op("Shape", IMAGE), self.constant([0], np.int64)
        start, end = self.constant([2], np.int64), self.constant([4], np.int64)
        return self.op("Slice", shape, start, end, axis)

    def _cut(self, x: str, ends: str, output: str) -> None:
        starts, axes = self.constant([0, 0], np.int64), self.constant([2, 3], np.int64)
        self.op("Slice", x, starts, ends, axes, output=output)

    def _channels(self, x: str, first: int, end: int) -> str:
        numbers = (self.constant([value], np.int64) for value in (first, end, 1))
        return self.op("Slice", x, *numbers)

    def _reduce(self, kind: str, x: str, axis: int) -> str:
        if self.opset >= 18:
            return self.op(kind, x, self.constant([axis], np.int64), keepdims=1)
        return self.op(kind, x, axes=[axis], keepdims=1)

    def _mean(self, x: str, axes: Sequence[int] = (3, 2, 1)) -> str:
        for axis in axes:
            x = self._reduce("ReduceMean", x, axis)
        return x
