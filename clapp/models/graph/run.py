"""Compute the steps of a network with torch, passing each value to a callback."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from clapp.models.activations import ACTIVATIONS
from clapp.models.graph.nodes import IMAGE, MAX_EPS, NORM_EPS, OUTPUT, ROOT_EPS, Graph, Node
from clapp.models.networks.whole import Moments

_RESIZED = ("pool", "enlarge", "extend", "crop")
At = Callable[[str, Tensor], Tensor]


def run_graph(graph: Graph, state: Mapping[str, Tensor], image: Tensor, at: At) -> Tensor:
    """The result of a network, (B, C, H, W) for pictures (B, C, H, W).

    Args:
        at: called with the name and the tensor of the picture, of every value, and of every kernel
            of a convolution; its result is used instead.
    """
    values = {IMAGE: at(IMAGE, image)}
    sides = image.shape[2:]
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        weights = [None if name is None else state[name] for name in node.weights]
        if node.kind == "conv":
            name = node.weights[0]
            assert name is not None
            weights[0] = at(name, state[name])
        if node.kind in _RESIZED:
            value = _resized(graph, node, inputs[0], sides)
        else:
            value = _step(node, inputs, weights)
        values[node.output] = at(node.output, value)
    return values[OUTPUT]


def _step(node: Node, inputs: list[Tensor], weights: list[Tensor | None]) -> Tensor:
    x = inputs[0]
    simple = {"pad": _pad, "function": _function, "sum": _sum, "maximum": _maximum}
    if node.kind in simple:
        return simple[node.kind](node, x)
    if node.kind == "window":
        return _function(node, x)
    if node.kind == "conv":
        return _conv(node, x, weights)
    if node.kind == "norm":
        return F.group_norm(x, 1, weights[0], weights[1], NORM_EPS)
    if node.kind == "mix":
        scaled = [v if w is None else w * v for w, v in zip(weights, inputs, strict=True)]
        return scaled[0] + scaled[1]
    if node.kind == "peak":
        return torch.amax(x, (2, 3), keepdim=True)
    if node.kind in ("times", "over"):
        return x * inputs[1] if node.kind == "times" else x / (inputs[1] + MAX_EPS)
    return _several(node, inputs)


def _several(node: Node, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    if node.kind == "join":
        return torch.cat(inputs, 1)
    if node.kind == "blend":
        maps = torch.unflatten(x[:, : -node.channels], 1, (-1, node.channels))
        blended: Tensor = (maps * inputs[1].unsqueeze(2)).sum(1) + x[:, -node.channels :]
        return blended
    if node.kind == "modulate":
        factor, offset = inputs[1].chunk(2, 1)
        return x * (1 + factor) + offset
    assert node.kind == "moments"
    result: Tensor = Moments()(x)
    return result


def _resized(graph: Graph, node: Node, x: Tensor, sides: torch.Size) -> Tensor:
    height, width = (node.size.of(side) for side in sides)
    if node.kind == "pool":
        factor = graph.factor(node)
        return F.avg_pool2d(_extended(x, height * factor, width * factor), factor)
    if node.kind == "extend":
        return _extended(x, height, width)
    if node.kind == "enlarge":
        x = F.interpolate(x, scale_factor=float(graph.factor(node)), mode="bilinear")
    return x[..., :height, :width]


def _extended(x: Tensor, height: int, width: int) -> Tensor:
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]), mode="replicate")


def _conv(node: Node, x: Tensor, weights: list[Tensor | None]) -> Tensor:
    kernel, bias = weights
    assert kernel is not None
    high, wide = node.reach
    if node.border != "none" and (high or wide):
        modes = {"zero": "constant"}
        x = F.pad(x, (wide, wide, high, high), mode=modes.get(node.border, node.border))
    return F.conv2d(x, kernel, bias, dilation=node.dilation, groups=node.groups)


def _pad(node: Node, x: Tensor) -> Tensor:
    high, wide = node.outside
    return F.pad(x, (wide, wide, high, high))


def _function(node: Node, x: Tensor) -> Tensor:
    result: Tensor
    if node.function == "root":
        result = torch.sqrt(F.relu(x) + ROOT_EPS) - ROOT_EPS**0.5
    else:
        result = ACTIVATIONS[node.function](x)
    return result


def _sum(node: Node, x: Tensor) -> Tensor:
    size = x.shape[1] // node.channels
    return torch.sum(x.reshape(len(x), node.channels, size, *x.shape[2:]), 2)


def _maximum(_: Node, x: Tensor) -> Tensor:
    return x / (torch.amax(torch.abs(x), (1, 2, 3), keepdim=True) + MAX_EPS)
