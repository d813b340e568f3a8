"""A network in integers: its scales from training pictures, and what it computes with them.

Values have one scale and zero point each, kernels one scale an output channel and no zero point
(Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference"). Activations are computed exactly and then rounded, as a table
of 256 entries does. Values have 8 bits, or 16 with a zero point of 0 (16x8); kernels have 8.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from clapp.models.graph.nodes import IMAGE, Graph, unrounded
from clapp.models.graph.run import run_graph

LEVELS = 127
Bits = Literal[8, 16]


class Scale(NamedTuple):
    """A value is step * (level - zero), with levels from `low` to `high`."""

    step: float
    zero: int
    bits: Bits = 8

    @property
    def low(self) -> int:
        """The least level."""
        return -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        """The largest level."""
        return (1 << (self.bits - 1)) - 1


Scales = dict[str, Scale]
State = Mapping[str, Tensor]
IMAGE_SCALE = Scale(1 / 255, -128)
IMAGE_SCALES = {8: IMAGE_SCALE, 16: Scale(1 / (255 * 128), 0, 16)}
"""Of pictures, whose 256 levels both keep exactly."""


def scale_of(low: float, high: float, bits: Bits = 8) -> Scale:
    """The scale of values from `low` to `high`, which has zero in it."""
    if bits == 16:
        return Scale(max(-low, high, 1e-9) / Scale(1, 0, 16).high, 0, 16)
    step = max(high - low, 1e-9) / 255
    return Scale(step, round(-128 - low / step))


def fused(graph: Graph) -> set[str]:
    """Values that are never rounded: results of convolutions that only a ReLU uses."""
    found, exact = set(), unrounded(graph)
    for node in graph.nodes:
        users = graph.users(node.output)
        if node.output in exact:
            continue
        if node.kind == "conv" and [user.function for user in users] == ["relu"]:
            found.add(node.output)
    return found


def kernel_steps(kernel: Tensor) -> Tensor:
    """The scale of every output channel of a kernel (O, I, h, w)."""
    return (kernel.detach().abs().amax((1, 2, 3)) / LEVELS).clamp_min(1e-12)


@torch.no_grad()
def calibrate(graph: Graph, state: State, pictures: Tensor, bits: Bits = 8) -> Scales:
    """The scale of every value that is rounded, from the least and the largest on `pictures`.

    Padding, cropping and maxima keep the scale of what they are given.
    """
    extremes, exact = extremes_of(graph, state, pictures), unrounded(graph)
    scales = {IMAGE: IMAGE_SCALES[bits]}
    for node in graph.nodes:
        if node.output in exact:
            continue
        if node.kind in ("pad", "window", "peak", "extend", "crop"):
            scales[node.output] = scales[node.inputs[0]]
            continue
        low, high = extremes[node.output]
        if node.most is not None:
            high = min(high, node.most)
        scales[node.output] = scale_of(low, high, bits)
    for name in fused(graph):
        scales[name] = scales[graph.users(name)[0].output]
    return scales


@torch.no_grad()
def extremes_of(graph: Graph, state: State, pictures: Tensor) -> dict[str, tuple[float, float]]:
    """The least and the largest of every value on `pictures`, with zero between them."""
    extremes: dict[str, tuple[float, float]] = {}

    def look(name: str, value: Tensor) -> Tensor:
        low, high = float(value.min()), float(value.max())
        known = extremes.get(name, (0.0, 0.0))
        extremes[name] = min(low, known[0]), max(high, known[1])
        return value

    for picture in pictures:
        run_graph(graph, state, picture[None], look)
    return extremes


def run_int8(graph: Graph, state: State, scales: Scales, image: Tensor) -> Tensor:
    """What the network computes in integers, in its units; gradients pass through the rounding."""
    floats = unrounded(graph)
    kernels = {node.weights[0] for node in graph.nodes if node.output in floats and node.weights}
    exact = fused(graph) | floats | kernels

    def rounded(name: str, value: Tensor) -> Tensor:
        if name in exact:
            return value
        scale = scales.get(name)
        if scale is not None:
            return torch.fake_quantize_per_tensor_affine(
                value, scale.step, scale.zero, scale.low, scale.high
            )
        steps = kernel_steps(value)
        zeros = torch.zeros(len(steps), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(value, steps, zeros, 0, -LEVELS, LEVELS)

    return run_graph(graph, state, image, rounded)
