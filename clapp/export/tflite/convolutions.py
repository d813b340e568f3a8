"""Convolutions, borders and roundings as operators of TFLite, in floats or in integers."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from clapp.export.tflite.flatbuffer import Builder, Tensor, as_float32
from clapp.training.int8.scales import Scale, kernel_steps

Sides = tuple[int, int]


class Convolutions:
    """What several steps are made of; tensors are (1, H, W, C)."""

    def __init__(self, sliced: bool) -> None:
        self.build = Builder()
        self._sliced = sliced

    def floats(self, x: Tensor) -> Tensor:
        """The value in floats."""
        return self.build.op("DEQUANTIZE", [x], x.shape)

    def rounded(self, x: Tensor, scale: Scale | None) -> Tensor:
        """The value with another scale."""
        if scale == x.scale:
            return x
        return self.build.op("QUANTIZE", [x], x.shape, scale)

    def convolution(
        self,
        x: Tensor,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32],
        groups: int,
        scale: Scale | None,
        border: str = "VALID",
        dilation: int = 1,
        relu: bool = False,
        stride: int = 1,
    ) -> Tensor:
        """A convolution with a kernel (O, I, h, w)."""
        channels, wide = x.shape[3], max(kernel.shape[2:]) > 1
        by_channel = 1 < groups == channels
        if groups > 1 and not by_channel:
            kernel = dense(kernel, groups)
        # (1, h, w, O) where each channel has kernels of its own, else (O, h, w, I)
        order, axis = ((1, 2, 3, 0), 3) if by_channel else ((0, 2, 3, 1), 0)
        height, width = x.shape[1:3]
        if border == "VALID":
            height -= (kernel.shape[2] - 1) * dilation
            width -= (kernel.shape[3] - 1) * dilation
        options = {
            "padding": self.build.number("Padding", border),
            "strideH": stride,
            "strideW": stride,
            "dilationHFactor": dilation if wide else 1,
            "dilationWFactor": dilation if wide else 1,
            "fusedActivationFunction": self.build.number(
                "ActivationFunctionType", "RELU" if relu else "NONE"
            ),
        }
        if by_channel:
            options["depthMultiplier"] = len(kernel) // channels
        return self.build.op(
            "DEPTHWISE_CONV_2D" if by_channel else "CONV_2D",
            [x, *self._kernel_and_bias(x, kernel, bias, order, axis)],
            (1, math.ceil(height / stride), math.ceil(width / stride), len(kernel)),
            scale,
            **options,
        )

    def _kernel_and_bias(
        self,
        x: Tensor,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32],
        order: Sequence[int],
        axis: int,
    ) -> tuple[Tensor, Tensor]:
        if x.scale is None:
            values = np.ascontiguousarray(kernel.transpose(order), np.float32)
            return self.build.constant(values), self.build.constant(as_float32(bias))
        steps = kernel_steps(torch.from_numpy(np.array(kernel, np.float32))).numpy()
        levels = np.rint(kernel / steps[:, None, None, None]).astype(np.int8).transpose(order)
        wide = steps * np.float32(x.scale.step)
        whole = np.rint(bias / wide).astype(np.int32 if x.scale.bits == 8 else np.int64)
        return (
            self.build.constant(np.ascontiguousarray(levels), steps, axis),
            self.build.constant(whole, wide),
        )

    def times(self, x: Tensor, factors: NDArray[np.float32], scale: Scale | None) -> Tensor:
        """Each channel times a factor: kernels of one tap, which have a scale a channel."""
        factors = np.broadcast_to(factors.ravel(), x.shape[3:])
        kernel = as_float32(factors).reshape(-1, 1, 1, 1)
        return self.convolution(x, kernel, np.zeros(len(kernel), np.float32), len(kernel), scale)

    def mirrored(self, x: Tensor, reach: Sides, border: str) -> Tensor:
        """More rows and columns; `replicate` is mirrored at the border, by one pixel at a time."""
        if self._sliced or (x.scale is not None and x.scale.bits == 16):
            for axis, width in zip((1, 2), reach, strict=True):
                x = self.with_slices(x, axis, border_rows(x.shape[axis], width, border))
            return x
        if border == "reflect":
            return self.padded(x, [reach, reach], "REFLECT")
        for step in range(max(reach)):
            one = (int(step < reach[0]), int(step < reach[1]))
            x = self.padded(x, [one, one], "SYMMETRIC")
        return x

    def with_slices(self, x: Tensor, axis: int, rows: tuple[list[int], list[int]]) -> Tensor:
        """Rows or columns of a value before and after it; some chips mirror no borders."""
        if not any(rows):
            return x
        cut = {row: self._slice(x, axis, row) for row in dict.fromkeys([*rows[0], *rows[1]])}
        before, after = ([cut[row] for row in side] for side in rows)
        shape = list(x.shape)
        shape[axis] += len(before) + len(after)
        parts = [*before, x, *after]
        return self.build.op("CONCATENATION", parts, shape, x.scale, axis=axis)

    def _slice(self, x: Tensor, axis: int, row: int) -> Tensor:
        begin, size = [0, 0, 0, 0], list(x.shape)
        begin[axis], size[axis] = row, 1
        return self.cut(x, begin, size)

    def cut(self, x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
        """A part of a value."""
        given = [self.build.constant(np.array(v, np.int32)) for v in (begin, size)]
        return self.build.op("SLICE", [x, *given], size, x.scale)

    def padded(self, x: Tensor, outside: Sequence[Sides], mode: str | None) -> Tensor:
        """Rows and columns before and after, mirrored or zero."""
        (top, left), (bottom, right) = outside
        if not any((top, left, bottom, right)):
            return x
        around = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        shape = (1, x.shape[1] + top + bottom, x.shape[2] + left + right, x.shape[3])
        given = [x, self.build.constant(around)]
        if mode is None:
            return self.build.op("PAD", given, shape, x.scale)
        number = self.build.number("MirrorPadMode", mode)
        return self.build.op("MIRROR_PAD", given, shape, x.scale, mode=number)


def border_rows(size: int, width: int, border: str) -> tuple[list[int], list[int]]:
    """Which rows of a value stand for the `width` before and the `width` after it."""
    if border == "replicate":
        return [0] * width, [size - 1] * width
    outside = range(1, width + 1)
    return list(reversed(outside)), [size - 1 - row for row in outside]


def dense(kernel: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """A kernel of groups as one of all channels, zero between groups."""
    count, per = len(kernel), kernel.shape[1]
    full = np.zeros((count, per * groups, *kernel.shape[2:]), np.float32)
    for o in range(count):
        first = o // (count // groups) * per
        full[o, first : first + per] = kernel[o]
    return full
