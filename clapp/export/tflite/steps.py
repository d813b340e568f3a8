"""The steps of a network as operators of TFLite, in floats or in integers.

Tensors are (1, H, W, C). In integers a step without an integer kernel in LiteRT and TFLite Micro is
computed in floats between DEQUANTIZE and QUANTIZE.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clapp.export.tflite.convolutions import Convolutions, Sides, dense
from clapp.export.tflite.flatbuffer import Tensor, as_float32
from clapp.models.graph.nodes import (
    IMAGE,
    LEAK,
    MAX_EPS,
    MOMENT_EPS,
    NORM_EPS,
    OUTPUT,
    ROOT_EPS,
    Graph,
    Node,
    never_negative,
)
from clapp.training.int8.scales import Scale, Scales, fused, scale_of

Weights = Mapping[str, NDArray[np.float32]]
_ALWAYS = ("norm", "maximum", "over", "root", "blend", "modulate")
IN_FLOATS = {8: _ALWAYS, 16: (*_ALWAYS, "enlarge", "tanh", "sigmoid", "swish", "gelu")}
"""Steps and functions without an integer kernel for values of so many bits."""
_BLOCK = 16  # pixels a side that one maximum pooling takes
_TANH, _LOGISTIC = Scale(1 / 128, 0), Scale(1 / 256, -128)  # what their int8 kernels demand


def write_tflite(
    graph: Graph,
    weights: Weights,
    size: Sides,
    scales: Scales | None = None,
    *,
    uint8: bool = False,
    sliced: bool = False,
    said: str = "",
) -> bytes:
    """The network as a TFLite file for pictures of one size.

    Args:
        size: (height, width).
        scales: of its values, in 8 or 16 bits; None: floats.
        uint8: the picture has levels from 0 to 255 as uint8; else it is float32 in [0, 1], or has
            the scale of the picture.
        sliced: write mirrored borders by SLICE and CONCATENATION.
        said: the description in the file.

    Raises:
        UserError: LiteRT is not installed.
    """
    return _Writer(graph, weights, size, scales, sliced).write(uint8, said)


class _Writer(Convolutions):
    def __init__(
        self, graph: Graph, weights: Weights, size: Sides, scales: Scales | None, sliced: bool
    ) -> None:
        super().__init__(sliced)
        self._graph, self._weights, self._size, self._scales = graph, weights, size, scales
        self._exact = fused(graph)
        self._values: dict[str, Tensor] = {}

    def write(self, uint8: bool, said: str) -> bytes:
        shape = (1, *self._size, self._graph.input_channels)
        scale = None if self._scales is None else self._scales[IMAGE]
        if uint8:
            image = self.build.tensor(shape, Scale(1 / 255, 0), uint8=True)
            self._values[IMAGE] = self._from_uint8(image, scale)
        else:
            image = self._values[IMAGE] = self.build.tensor(shape, scale)
        for node in self._graph.nodes:
            self._values[node.output] = self._step(node)
        return self.build.finish(image, self._values[OUTPUT], (IMAGE, OUTPUT), said)

    def _from_uint8(self, image: Tensor, scale: Scale | None) -> Tensor:
        if scale is None:
            return self.floats(image)
        eight = self.rounded(image, Scale(1 / 255, -128))
        return eight if scale.bits == 8 else self.rounded(eight, scale)

    def _step(self, node: Node) -> Tensor:
        inputs = [self._values[name] for name in node.inputs]
        scale = None if self._scales is None else self._scales.get(node.output)
        write: Callable[..., Tensor] = getattr(self, f"_{node.kind}")
        if scale is not None and not _in_floats(node, scale.bits):
            return write(node, scale, *inputs)
        inputs = [x if x.scale is None else self.floats(x) for x in inputs]
        result = write(node, None, *inputs)
        return result if scale is None else self.rounded(result, scale)

    def _conv(self, node: Node, scale: Scale | None, x: Tensor) -> Tensor:
        kernel, bias = node.weights
        assert kernel is not None
        values = self._weights[kernel]
        shift = np.zeros(node.channels, np.float32) if bias is None else self._weights[bias]
        if node.border in ("reflect", "replicate"):
            x = self.mirrored(x, node.reach, node.border)
        border = "SAME" if node.border == "zero" else "VALID"
        fuse = node.output in self._exact
        return self.convolution(x, values, shift, node.groups, scale, border, node.dilation, fuse)

    def _pad(self, node: Node, _: Scale | None, x: Tensor) -> Tensor:
        return self.padded(x, [node.outside, node.outside], None)

    def _function(self, node: Node, scale: Scale | None, x: Tensor) -> Tensor:
        name, op = node.function, self.build.op
        if name == "relu":
            return x if node.inputs[0] in self._exact else op("RELU", [x], x.shape, scale)
        if name in ("square", "squared_relu"):
            if name == "squared_relu":
                x = op("RELU", [x], x.shape, x.scale)
            return op("MUL", [x, x], x.shape, scale)
        if name in ("tanh", "sigmoid"):
            return self._curve(name, x, scale)
        if name == "swish":
            half = None if x.scale is None else _LOGISTIC
            return op("MUL", [x, self._curve("sigmoid", x, half)], x.shape, scale)
        if name == "root":
            return self._root(node, x)
        if name == "clip":
            x = op("RELU", [x], x.shape, scale)
            # In integers the largest level is at most 1, and what is above it stays there.
            return x if scale is not None else op("MINIMUM", [x, self._number(1)], x.shape)
        if name == "leaky_relu":
            return op("LEAKY_RELU", [x], x.shape, scale, alpha=LEAK)
        return op(name.upper(), [x], x.shape, scale)  # ABS, GELU

    def _curve(self, name: str, x: Tensor, scale: Scale | None) -> Tensor:
        code, fixed = ("TANH", _TANH) if name == "tanh" else ("LOGISTIC", _LOGISTIC)
        value = self.build.op(code, [x], x.shape, None if scale is None else fixed)
        return self.rounded(value, scale)

    def _root(self, node: Node, x: Tensor) -> Tensor:
        op = self.build.op
        if not never_negative(self._graph, node.inputs[0], self._weights):
            x = op("RELU", [x], x.shape)
        x = op("SQRT", [op("ADD", [x, self._number(ROOT_EPS)], x.shape)], x.shape)
        return op("SUB", [x, self._number(math.sqrt(ROOT_EPS))], x.shape)

    def _number(self, value: float) -> Tensor:
        return self.build.constant(as_float32(value).reshape(1, 1, 1, 1))

    def _window(self, node: Node, scale: Scale | None, x: Tensor) -> Tensor:
        least, options = node.function == "min3", self.build.number
        ones, mirrored = np.ones(1, np.float32), scale
        if least:  # of the negative levels, which are as exact
            if scale is not None:
                mirrored = scale._replace(zero=-1 - scale.zero if scale.bits == 8 else 0)
            x = self.times(x, -ones, mirrored)
        x = self.build.op(
            "MAX_POOL_2D",
            [x],
            x.shape,
            mirrored,
            padding=options("Padding", "SAME"),
            strideH=1,
            strideW=1,
            filterHeight=3,
            filterWidth=3,
        )
        return self.times(x, -ones, scale) if least else x

    def _norm(self, node: Node, _: Scale | None, x: Tensor) -> Tensor:
        """Group normalisation with one group; means axis by axis, which keeps sums short."""
        weight, bias = node.weights
        assert weight is not None
        assert bias is not None
        op, one, channels = self.build.op, (1, 1, 1, 1), (1, 1, 1, node.channels)
        centred = op("SUB", [x, self._mean(x)], x.shape)
        variance = self._mean(op("MUL", [centred, centred], x.shape))
        root = op("SQRT", [op("ADD", [variance, self._number(NORM_EPS)], one)], one)
        factors = self.build.constant(self._weights[weight].reshape(channels))
        shift = self.build.constant(self._weights[bias].reshape(channels))
        scaled = op("MUL", [centred, op("DIV", [factors, root], channels)], x.shape)
        return op("ADD", [scaled, shift], x.shape)

    def _mean(self, x: Tensor, axes: Sequence[int] = (2, 1, 3)) -> Tensor:
        for axis in axes:
            x = self._reduced("MEAN", x, [axis])
        return x

    def _reduced(self, code: str, x: Tensor, axes: list[int]) -> Tensor:
        shape = [1 if n in axes else side for n, side in enumerate(x.shape)]
        axis = self.build.constant(np.array(axes, np.int32))
        return self.build.op(code, [x, axis], shape, x.scale, keepDims=True)

    def _mix(self, node: Node, scale: Scale | None, *inputs: Tensor) -> Tensor:
        parts = []
        for x, name in zip(inputs, node.weights, strict=True):
            parts.append(x if name is None else self._scaled(x, self._weights[name]))
        return self.build.op("ADD", parts, parts[0].shape, scale)

    def _scaled(self, x: Tensor, factors: NDArray[np.float32]) -> Tensor:
        if x.scale is None:
            return self.times(x, factors, None)
        ends = [x.scale.step * (end - x.scale.zero) for end in (x.scale.low, x.scale.high)]
        products = [float(factor) * end for factor in factors.ravel() for end in ends]
        wide = scale_of(min(0.0, *products), max(0.0, *products), x.scale.bits)
        return self.times(x, factors, wide)

    def _sum(self, node: Node, scale: Scale | None, x: Tensor) -> Tensor:
        size = x.shape[3] // node.channels
        ones = np.ones((node.channels, size, 1, 1), np.float32)
        none = np.zeros(node.channels, np.float32)
        return self.convolution(x, dense(ones, node.channels), none, 1, scale)

    def _pool(self, node: Node, scale: Scale | None, x: Tensor) -> Tensor:
        factor = self._graph.factor(node)
        x = self._extended(x, factor)
        mean = np.full((node.channels, 1, factor, factor), 1 / factor**2, np.float32)
        none = np.zeros(node.channels, np.float32)
        return self.convolution(x, mean, none, node.channels, scale, "VALID", stride=factor)

    def _extended(self, x: Tensor, grid: int) -> Tensor:
        """The last row and column repeated until the sides are multiples of a number."""
        for axis in (1, 2):
            more = -x.shape[axis] % grid
            x = self.with_slices(x, axis, ([], [x.shape[axis] - 1] * more)) if more else x
        return x

    def _extend(self, node: Node, _: Scale | None, x: Tensor) -> Tensor:
        return self._extended(x, node.size.grid)

    def _crop(self, node: Node, _: Scale | None, x: Tensor) -> Tensor:
        sides = tuple(node.size.of(side) for side in self._size)
        shape = (1, *sides, node.channels)
        return x if shape == tuple(x.shape) else self.cut(x, (0, 0, 0, 0), shape)

    def _join(self, node: Node, scale: Scale | None, *inputs: Tensor) -> Tensor:
        same = [self.rounded(x, scale) for x in inputs]  # as its kernel demands
        shape = (*same[0].shape[:3], node.channels)
        return self.build.op("CONCATENATION", same, shape, scale, axis=3)

    def _channels(self, x: Tensor, first: int, count: int) -> Tensor:
        return self.cut(x, (0, 0, 0, first), (*x.shape[:3], count))

    def _blend(self, node: Node, _: Scale | None, x: Tensor, guide: Tensor) -> Tensor:
        outputs, guides = node.channels, guide.shape[3]
        products = self._channels(x, 0, outputs * guides)
        if outputs > 1:
            guide = self._by_matrix(guide, np.eye(guides).repeat(outputs, 0))
        products = self.build.op("MUL", [products, guide], products.shape)
        summed = self._by_matrix(products, np.tile(np.eye(outputs), guides))
        offsets = self._channels(x, outputs * guides, outputs)
        return self.build.op("ADD", [summed, offsets], summed.shape)

    def _by_matrix(self, x: Tensor, matrix: NDArray[np.float64]) -> Tensor:
        kernel = as_float32(matrix)[:, :, None, None]
        return self.convolution(x, kernel, np.zeros(len(kernel), np.float32), 1, None)

    def _moments(self, node: Node, _: Scale | None, x: Tensor) -> Tensor:
        op, one = self.build.op, (1, 1, 1, node.channels // 4)
        mean = self._mean(x, (2, 1))
        centred = op("SUB", [x, mean], x.shape)
        variance = self._mean(op("MUL", [centred, centred], x.shape), (2, 1))
        deviation = op("SQRT", [op("ADD", [variance, self._number(MOMENT_EPS)], one)], one)
        normal = op("DIV", [centred, deviation], x.shape)
        square = op("MUL", [normal, normal], x.shape)
        third = self._mean(op("MUL", [square, normal], x.shape), (2, 1))
        parts = [mean, self._reduced("REDUCE_MAX", x, [1, 2]), deviation]
        parts.append(op("TANH", [third], one))
        return op("CONCATENATION", parts, (1, 1, 1, node.channels), axis=3)

    def _modulate(self, node: Node, _: Scale | None, x: Tensor, change: Tensor) -> Tensor:
        width = node.channels
        factor = self._channels(change, 0, width)
        factor = self.build.op("ADD", [factor, self._number(1.0)], factor.shape)
        scaled = self.build.op("MUL", [x, factor], x.shape)
        return self.build.op("ADD", [scaled, self._channels(change, width, width)], x.shape)

    def _enlarge(self, node: Node, scale: Scale | None, x: Tensor) -> Tensor:
        factor = self._graph.factor(node)
        height, width = factor * x.shape[1], factor * x.shape[2]
        sides = self.build.constant(np.array([height, width], np.int32))
        shape = (1, height, width, node.channels)
        x = self.build.op("RESIZE_BILINEAR", [x, sides], shape, x.scale, halfPixelCenters=True)
        return self.rounded(self._crop(node, None, x), scale)

    def _maximum(self, node: Node, _: Scale | None, x: Tensor) -> Tensor:
        size = x
        if not never_negative(self._graph, node.inputs[0], self._weights):
            size = self.build.op("ABS", [x], x.shape)
        size = self._reduced("REDUCE_MAX", size, [1, 2, 3])
        return self._over(node, None, x, size)

    def _over(self, _: Node, __: Scale | None, x: Tensor, size: Tensor) -> Tensor:
        size = self.build.op("ADD", [size, self._number(MAX_EPS)], (1, 1, 1, 1))
        return self.build.op("DIV", [x, size], x.shape)

    def _times(self, _: Node, scale: Scale | None, x: Tensor, factor: Tensor) -> Tensor:
        return self.build.op("MUL", [x, factor], x.shape, scale)

    def _peak(self, _: Node, __: Scale | None, x: Tensor) -> Tensor:
        """Maximum pooling of blocks until one pixel is left: chips limit their size."""
        while max(x.shape[1:3]) > 1:
            block = [min(side, _BLOCK) for side in x.shape[1:3]]
            sides = [math.ceil(side / one) for side, one in zip(x.shape[1:3], block, strict=True)]
            x = self.build.op(
                "MAX_POOL_2D",
                [x],
                (1, *sides, x.shape[3]),
                x.scale,
                padding=self.build.number("Padding", "SAME"),
                strideH=block[0],
                strideW=block[1],
                filterHeight=block[0],
                filterWidth=block[1],
            )
        return x


def _in_floats(node: Node, bits: int) -> bool:
    return node.kind in IN_FLOATS[bits] or node.function in IN_FLOATS[bits]
