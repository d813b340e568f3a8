"""Steps that change the size of a value, and steps of several values, as ONNX operators."""

from typing import Any

import numpy as np

from clapp.export.operators.collect import Array, Operators
from clapp.models.graph.nodes import Node


class Resizing(Operators):
    """Writes them."""

    def _pool(self, node: Node, x: str) -> None:
        factor = self._graph.factor(node)
        if self._graph.completes(node):
            # Always pad: it completes the last square, and pooling drops what is beyond it.
            x = self._repeated(x, factor - 1)
        square = [factor, factor]
        self.op("AveragePool", x, output=node.output, kernel_shape=square, strides=square)

    def _repeated(self, x: str, more: int) -> str:
        """The value with its last row and column repeated."""
        around = self.constant([0, 0, 0, 0, 0, 0, more, more], np.int64)
        return self.op("Pad", x, around, mode="edge")

    def _enlarge(self, node: Node, x: str) -> None:
        factor, cut = self._graph.factor(node), self._graph.completes(node)
        scales = self.constant([1, 1, factor, factor])
        region = self.constant(np.zeros(0))  # required and unused before opset 13
        how: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        x = self.op("Resize", x, region, scales, output=None if cut else node.output, **how)
        if cut:
            self._crop(node, x)

    def _extend(self, node: Node, x: str) -> None:
        grid, size = node.size.grid, self._options.size
        if size is not None:
            more = [node.size.of(side) - side for side in size]
            around = self.constant([0, 0, 0, 0, 0, 0, *more], np.int64)
            self.op("Pad", x, around, output=node.output, mode="edge")
            return
        multiple = self.constant([grid], np.int64)
        beyond = self.op("Add", self._sides(), self.constant([grid - 1], np.int64))
        ends = self.op("Mul", self.op("Div", beyond, multiple), multiple)
        self._cut(self._repeated(x, grid - 1), ends, node.output)

    def _crop(self, node: Node, x: str) -> None:
        size = self._options.size
        ends = self._sides() if size is None else self.constant(size, np.int64)
        self._cut(x, ends, node.output)

    def _join(self, node: Node, *inputs: str) -> None:
        self.op("Concat", *inputs, output=node.output, axis=1)

    def _blend(self, node: Node, x: str, guide: str) -> None:
        outputs, guides = node.channels, self._graph.channels(node.inputs[1])
        count = outputs * guides
        if outputs > 1:
            guide = self._by_ones(guide, np.eye(guides).repeat(outputs, 0))
        products = self.op("Mul", self._channels(x, 0, count), guide)
        summed = self._by_ones(products, np.tile(np.eye(outputs), guides))
        offsets = self._channels(x, count, count + outputs)
        self.op("Add", summed, offsets, output=node.output)

    def _by_ones(self, x: str, matrix: Array) -> str:
        """Channels times a constant matrix, by a convolution of one pixel."""
        kernel = self.constant(matrix[:, :, None, None])
        return self.op("Conv", x, kernel, kernel_shape=[1, 1])
