"""Channels that reach equally far: the same network in floats, and a better one in integers.

All channels of a value share one scale, and all inputs of an output share that of its kernel. Where
one channel reaches to 20 and another to 1, the second has few of the levels, and the kernel that
makes up for it may be rounded to nothing. A factor of a channel can be moved from one convolution
to the next past any function with f(c x) = c^n f(x) (cross-layer equalization; Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction"; here by what values reach
on training pictures instead of by weights).
"""

from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from clapp.models.activations import activation
from clapp.models.graph.nodes import Graph, Node, unrounded
from clapp.models.graph.run import run_graph
from clapp.training.int8.scales import State

CHANNEL_BY_CHANNEL = ("pad", "window", "pool", "enlarge", "extend", "crop")
"""Kinds of steps that multiply their result by what their channel is multiplied by."""
MOST = 1e4
"""The largest factor: of a channel that hardly reaches anything, rounding errors are left."""


class Pair(NamedTuple):
    """Two convolutions with nothing but channels between; `value` is what the second takes."""

    first: Node
    second: Node
    value: str
    degree: int


@torch.no_grad()
def equalised(graph: Graph, state: State, pictures: Tensor) -> State:
    """The weights of the same network whose channels reach equally far on `pictures`.

    Args:
        pictures: (N, 3, H, W), each computed by itself.
    """
    result, reached = dict(state), _reached(graph, state, pictures)
    for pair in pairs(graph):
        reach = reached[pair.value] ** (1 / pair.degree)
        factors = (reach.max() / reach).nan_to_num(1.0).clamp(1, MOST)
        kernel, bias = pair.first.weights
        assert kernel is not None
        result[kernel] = result[kernel] * factors[:, None, None, None]
        if bias is not None:
            result[bias] = result[bias] * factors
        kernel = pair.second.weights[0]
        assert kernel is not None
        before = _inputs(pair.second, result[kernel])
        result[kernel] = result[kernel] / (factors**pair.degree)[before][..., None, None]
    return result


def pairs(graph: Graph) -> list[Pair]:
    """The convolutions of a network between which factors of channels can be moved."""
    uses = Counter(name for node in graph.nodes for name in node.weights)
    statistics, found = unrounded(graph), []
    for first in graph.nodes:
        if first.kind != "conv" or first.output in statistics:
            continue
        node, degree = first, 1
        while node.most is None and len(users := graph.users(node.output)) == 1:
            (user,) = users
            if user.kind == "conv":
                if all(uses[conv.weights[0]] == 1 for conv in (first, user)):
                    found.append(Pair(first, user, node.output, degree))
                break
            power = _degree(user)
            if power is None:
                break
            node, degree = user, degree * power
    return found


def _degree(node: Node) -> int | None:
    """The n for which a step makes the n-th power of a factor of a channel; None: there is none."""
    if node.kind in CHANNEL_BY_CHANNEL:
        return 1
    known = node.kind == "function" and node.function != "root"
    return activation(node.function).degree if known else None


def _reached(graph: Graph, state: State, pictures: Tensor) -> dict[str, Tensor]:
    """The largest magnitude in every channel (C,) of every value."""
    reached: dict[str, Tensor] = {}

    def look(name: str, value: Tensor) -> Tensor:
        largest = value.abs().amax((0, 2, 3))
        reached[name] = torch.maximum(largest, reached.get(name, largest))
        return value

    for picture in pictures:
        run_graph(graph, state, picture[None], look)
    return reached


def _inputs(node: Node, kernel: Tensor) -> Tensor:
    """The channel (O, I) that each kernel of a convolution (O, I, h, w) is applied to."""
    outputs, inputs = kernel.shape[:2]
    group = torch.arange(outputs) // (outputs // node.groups)
    return group[:, None] * inputs + torch.arange(inputs)
