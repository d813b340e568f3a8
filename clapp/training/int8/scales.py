"""A network in int8: its scales from training pictures, and what it computes with them.

Values have one scale and zero point each (-128 to 127), kernels one scale an output channel and no
zero point (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference"). Functions of one value are computed exactly and rounded, as a
table of 256 entries does.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from clapp.models.graph.nodes import IMAGE, Graph
from clapp.models.graph.run import run_graph

LEVELS = 127


class Scale(NamedTuple):
    """A value is step * (level - zero), with levels from -128 to 127."""

    step: float
    zero: int


Scales = dict[str, Scale]
State = Mapping[str, Tensor]
IMAGE_SCALE = Scale(1 / 255, -128)


def fused(graph: Graph) -> set[str]:
    """Values that are never rounded: what a convolution gives to a ReLU alone."""
    found = set()
    for node in graph.nodes:
        users = graph.users(node.output)
        if node.kind == "conv" and [user.function for user in users] == ["relu"]:
            found.add(node.output)
    return found


def kernel_steps(kernel: Tensor) -> Tensor:
    """The scale of every output channel of a kernel (O, I, h, w)."""
    return (kernel.detach().abs().amax((1, 2, 3)) / LEVELS).clamp_min(1e-12)


@torch.no_grad()
def calibrate(graph: Graph, state: State, pictures: Tensor) -> Scales:
    """The scale of every value that is rounded, from the least and the largest on `pictures`.

    Padding and maxima over windows keep the scale of what they are given.
    """
    extremes: dict[str, tuple[float, float]] = {}

    def look(name: str, value: Tensor) -> Tensor:
        low, high = float(value.min()), float(value.max())
        known = extremes.get(name, (0.0, 0.0))
        extremes[name] = min(low, known[0]), max(high, known[1])
        return value

    for picture in pictures:
        run_graph(graph, state, picture[None], look)
    scales = {IMAGE: IMAGE_SCALE}
    for node in graph.nodes:
        if node.kind in ("pad", "window"):
            scales[node.output] = scales[node.inputs[0]]
            continue
        low, high = extremes[node.output]
        step = max(high - low, 1e-9) / 255
        scales[node.output] = Scale(step, round(-128 - low / step))
    for name in fused(graph):
        scales[name] = scales[graph.users(name)[0].output]
    return scales


def run_int8(graph: Graph, state: State, scales: Scales, image: Tensor) -> Tensor:
    """What the network computes in int8, in its units; gradients pass through the rounding."""
    exact = fused(graph)

    def rounded(name: str, value: Tensor) -> Tensor:
        if name in exact:
            return value
        if name in scales:
            step, zero = scales[name]
            return torch.fake_quantize_per_tensor_affine(value, step, zero, -128, 127)
        steps = kernel_steps(value)
        zeros = torch.zeros(len(steps), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(value, steps, zeros, 0, -LEVELS, LEVELS)

    return run_graph(graph, state, image, rounded)
