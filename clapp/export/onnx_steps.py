"""The steps of a network as ONNX operators, at any opset from 11 to 18."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import TensorProto

from clapp.export.operators.collect import Array
from clapp.export.operators.resizing import Resizing
from clapp.export.operators.whole import Whole
from clapp.export.options import Options
from clapp.filters.learned.settings import Setting
from clapp.models.graph.nodes import (
    IMAGE,
    LEAK,
    ROOT_EPS,
    Graph,
    Node,
    never_negative,
)

_MODES = {"reflect": "reflect", "replicate": "edge"}


class Writer(Resizing, Whole):
    """Writes all steps of a network."""

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        options: Options,
        opset: int,
        settings: Sequence[Setting] = (),
    ) -> None:
        super().__init__(graph, weights, options, opset)
        self.settings = settings
        self._renamed: dict[str, str] = {}
        self._scale = 1.0  # scale of the picture, still to be multiplied into the first convolution

    def write(self) -> None:
        """Write every step."""
        self._start()
        for node in self._graph.nodes:
            inputs = [self._renamed.get(name, name) for name in node.inputs]
            self._step(node, *inputs)

    def _start(self) -> None:
        """Convert a uint8 picture; the first convolution scales it if possible."""
        if self.settings:
            self._renamed[IMAGE] = self._picture()
        elif not self._options.uint8:
            return
        elif len(self._graph.users(IMAGE)) == 1:
            self._renamed[IMAGE] = self.op("Cast", IMAGE, to=TensorProto.FLOAT)
            self._scale = 1 / 255
        else:
            self._renamed[IMAGE] = self._cast_and_scale()

    def _picture(self) -> str:
        """The picture in [0, 1], and a channel for each setting behind it."""
        image = self._cast_and_scale() if self._options.uint8 else IMAGE
        if not self.settings:
            return image
        shape = self._plane_shape()
        planes = []
        for setting in self.settings:
            x = self.op("Reshape", setting.name, self.constant([-1, 1, 1, 1], np.int64))
            x = self.op("Sub", x, self.constant(setting.low))
            x = self.op("Mul", x, self.constant(1 / (setting.high - setting.low)))
            planes.append(self.op("Expand", x, shape))
        return self.op("Concat", image, *planes, axis=1)

    def _plane_shape(self) -> str:
        """The name of (batch, 1, height, width)."""
        if self._options.size is not None:
            return self.constant([1, 1, *self._options.size], np.int64)
        shape, one = self.op("Shape", IMAGE), self.constant([1], np.int64)
        zero, two, four = (self.constant([n], np.int64) for n in (0, 2, 4))
        batch = self.op("Slice", shape, zero, one, zero)
        return self.op("Concat", batch, one, self.op("Slice", shape, two, four, zero), axis=0)

    def _cast_and_scale(self) -> str:
        cast = self.op("Cast", IMAGE, to=TensorProto.FLOAT)
        return self.op("Mul", cast, self.constant(1 / 255))

    def _step(self, node: Node, *inputs: str) -> None:
        if self._scale != 1 and not self._passes_scale(node):
            inputs = (self.op("Mul", inputs[0], self.constant(self._scale)), *inputs[1:])
            self._scale = 1.0
        write: Callable[..., None] = getattr(self, f"_{node.kind}")
        write(node, *inputs)

    def _passes_scale(self, node: Node) -> bool:
        """Whether the scale of the picture may be left to a convolution: this one or the next."""
        if node.kind not in ("pool", "extend"):
            return node.kind == "conv"
        return [user.kind for user in self._graph.users(node.output)] in (["conv"], ["pool"])

    def _conv(self, node: Node, x: str) -> None:
        pads = [*node.reach, *node.reach]
        if node.border in _MODES and max(pads):
            x = self._mirrored(x, node)
        if node.border != "zero":
            pads = [0, 0, 0, 0]
        inputs = [x, *self._kernel_and_bias(node)]
        self.op(
            "Conv",
            *inputs,
            output=node.output,
            kernel_shape=list(node.kernel),
            dilations=[node.dilation] * 2 if max(node.kernel) > 1 else [1, 1],
            group=node.groups,
            pads=pads,
            strides=[1, 1],
        )

    def _mirrored(self, x: str, node: Node) -> str:
        if not self._options.sliced:
            around = self.constant([0, 0, *node.reach, 0, 0, *node.reach], np.int64)
            return self.op("Pad", x, around, mode=_MODES[node.border])
        for axis, width in zip((2, 3), node.reach, strict=True):
            outside = range(1, width + 1)
            before, after = [*reversed(outside)], [-1 - row for row in outside]
            if node.border == "replicate":
                before, after = [0] * width, [-1] * width
            if width:
                parts = (
                    [self._row(x, axis, row) for row in before],
                    [self._row(x, axis, row) for row in after],
                )
                x = self.op("Concat", *parts[0], x, *parts[1], axis=axis)
        return x

    def _row(self, x: str, axis: int, row: int) -> str:
        """One row or column; from the end where `row` is negative."""
        end = np.iinfo(np.int64).max if row == -1 else row + 1
        numbers = (self.constant([value], np.int64) for value in (row, end, axis))
        return self.op("Slice", x, *numbers)

    def _kernel_and_bias(self, node: Node) -> list[str]:
        kernel, bias = node.weights
        assert kernel is not None
        names = [self.weight(kernel)]
        if self._scale != 1:
            self.initializers[kernel] = self.initializers[kernel] * np.float32(self._scale)
            self._scale = 1.0
        return names if bias is None else [*names, self.weight(bias)]

    def _pad(self, node: Node, x: str) -> None:
        around = self.constant([0, 0, *node.outside, 0, 0, *node.outside], np.int64)
        self.op("Pad", x, around, output=node.output, mode="constant")

    def _function(self, node: Node, x: str) -> None:
        simple = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "abs": "Abs"}
        out, name = node.output, node.function
        if name in simple:
            self.op(simple[name], x, output=out)
        elif name == "leaky_relu":
            self.op("LeakyRelu", x, output=out, alpha=LEAK)
        elif name in ("square", "squared_relu"):
            if name == "squared_relu":
                x = self.op("Relu", x)
            self.op("Mul", x, x, output=out)
        elif name == "swish":
            self.op("Mul", x, self.op("Sigmoid", x), output=out)
        elif name == "gelu":
            self._gelu(x, out)
        elif name == "clip":
            self.op("Clip", x, self.constant(0), self.constant(1), output=out)
        else:
            assert name == "root"
            if not never_negative(self._graph, node.inputs[0], self._weights):
                x = self.op("Relu", x)
            x = self.op("Sqrt", self.op("Add", x, self.constant(ROOT_EPS)))
            self.op("Sub", x, self.constant(math.sqrt(ROOT_EPS)), output=out)

    def _gelu(self, x: str, out: str) -> None:
        """x * (1 + erf(x / sqrt(2))) / 2; the operator Gelu exists from opset 20 on."""
        erf = self.op("Erf", self.op("Mul", x, self.constant(math.sqrt(0.5))))
        both = self.op("Mul", x, self.op("Add", erf, self.constant(1)))
        self.op("Mul", both, self.constant(0.5), output=out)

    def _window(self, node: Node, x: str) -> None:
        pads = [1, 1, 1, 1]
        if node.function == "min3":
            x = self.op("Neg", x)
        elif self._graph.maker(node.inputs[0]).kind == "pad":
            # ONNX Runtime would merge these zeros into the border of the pool, which is not zero.
            x = self.op("Pad", x, self.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), mode="edge")
            pads = [0, 0, 0, 0]
        name = node.output if node.function == "max3" else None
        x = self.op("MaxPool", x, output=name, kernel_shape=[3, 3], pads=pads, strides=[1, 1])
        if node.function == "min3":
            self.op("Neg", x, output=node.output)

    def _mix(self, node: Node, y: str, x: str) -> None:
        alfa, beta = node.weights
        if alfa is not None:
            y = self.op("Mul", y, self.weight(alfa))
        if beta is not None:
            x = self.op("Mul", x, self.weight(beta))
        self.op("Add", y, x, output=node.output)

    def _sum(self, node: Node, x: str) -> None:
        """Sum channels by a convolution with ones, since some runtimes cannot sum channels."""
        size = self._graph.channels(node.inputs[0]) // node.channels
        ones = self.constant(np.ones((node.channels, size, 1, 1)))
        self.op("Conv", x, ones, output=node.output, kernel_shape=[1, 1], group=node.channels)
