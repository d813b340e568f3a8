"""The footprint of a network on a chip, exact and without torch: memory, weights, operators."""

from functools import lru_cache
from typing import NamedTuple

from clapp.config.model import ModelConfig
from clapp.errors import ConfigError
from clapp.models.families import family_of
from clapp.models.family import SIDE
from clapp.models.graph.nodes import (
    ELEMENTWISE,
    IMAGE,
    Graph,
    Node,
    NoStepsError,
    never_negative,
)

_FUNCTIONS = {
    "relu": ("Relu",),
    "leaky_relu": ("LeakyRelu",),
    "squared_relu": ("Relu", "Mul"),
    "gelu": ("Mul", "Erf", "Add"),
    "tanh": ("Tanh",),
    "sigmoid": ("Sigmoid",),
    "swish": ("Sigmoid", "Mul"),
    "clip": ("Clip",),
    "abs": ("Abs",),
    "square": ("Mul",),
    "root": ("Relu", "Add", "Sqrt", "Sub"),
}


class Footprint(NamedTuple):
    """See `peak_memory`, `weight_bytes` and `operators`."""

    memory: int
    weight_bytes: int
    operators: tuple[str, ...]


def steps_or_reason(config: ModelConfig) -> Graph | str:
    """The steps of a network, or why they are not known."""
    try:
        graph: Graph | None = family_of(config).graph(config)
    except NoStepsError as error:
        return str(error)
    return "its family has none" if graph is None else graph


def steps_of(config: ModelConfig) -> Graph:
    """The steps of a network.

    Raises:
        ConfigError: they are not known.
    """
    found = steps_or_reason(config)
    if isinstance(found, str):
        raise ConfigError(
            f"model.family {config.family}: the steps of this network are not known ({found}), so "
            "neither are its memory, its weights in bytes and its operators"
        )
    return found


@lru_cache(maxsize=16384)
def footprint(config: ModelConfig) -> Footprint:
    """The footprint of a network at 224x224: memory in float32, weights as int8; cached.

    Raises:
        ConfigError: see `steps_of`.
    """
    graph = steps_of(config)
    return Footprint(peak_memory(graph), weight_bytes(graph), operators(graph))


def peak_memory(graph: Graph, height: int = SIDE, width: int = SIDE, size: int = 4) -> int:
    """The peak bytes of values in memory when the steps are computed one after the other.

    The picture counts until its last use. An elementwise step overwrites its input unless another
    step needs it. A runtime with a perfect memory plan takes this much; weights are not counted.

    Args:
        size: bytes per value: 4 in float32, 1 in int8.
    """
    sizes = {IMAGE: graph.input_channels * height * width}
    inner = {IMAGE: (height, width)}
    last = {name: number for number, node in enumerate(graph.nodes) for name in node.inputs}
    alive, most = {IMAGE}, 0
    for number, node in enumerate(graph.nodes):
        sides = _sides(node, inner[node.inputs[0]], (height, width))
        inner[node.output] = sides
        sizes[node.output] = node.channels * sides[0] * sides[1]
        over = node.kind in ELEMENTWISE and last[node.inputs[0]] == number
        now = sum(sizes[name] for name in alive) + (0 if over else sizes[node.output])
        most = max(most, now)
        alive = {name for name in alive if last.get(name, -1) > number} | {node.output}
    return most * size


def _sides(node: Node, inner: tuple[int, int], picture: tuple[int, int]) -> tuple[int, int]:
    high, wide = inner
    if node.kind == "conv" and node.border == "none":
        return high - 2 * node.reach[0], wide - 2 * node.reach[1]
    if node.kind == "pad":
        return high + 2 * node.outside[0], wide + 2 * node.outside[1]
    if node.kind in ("pool", "enlarge", "extend", "crop"):
        return node.size.of(picture[0]), node.size.of(picture[1])
    return (1, 1) if node.kind == "moments" else inner


def weight_bytes(graph: Graph) -> int:
    """Bytes of the weights as int8: kernels one byte a weight, all others four."""
    kernels: dict[str, int] = {}
    others: dict[str, int] = {}
    for node in graph.nodes:
        for position, name in enumerate(node.weights):
            if name is None:
                continue
            if node.kind == "conv" and position == 0:
                kernels[name] = graph.multiply_adds(node)
            else:
                others[name] = node.channels
    return sum(kernels.values()) + 4 * sum(others.values())


def operators(graph: Graph) -> tuple[str, ...]:
    """The ONNX operators of a file of fixed size, in alphabetical order; the same for all
    weights."""
    return tuple(sorted({name for node in graph.nodes for name in operators_of(graph, node)}))


def operators_of(graph: Graph, node: Node) -> tuple[str, ...]:
    """The ONNX operators of one step."""
    kind = node.kind
    if kind == "conv":
        padded = node.border in ("reflect", "replicate") and max(node.reach)
        return ("Pad", "Conv") if padded else ("Conv",)
    if kind == "function":
        names = _FUNCTIONS[node.function]
        if node.function == "root" and never_negative(graph, node.inputs[0], None):
            return names[1:]
        return names
    if kind == "window":
        if node.function == "min3":
            return "Neg", "MaxPool"
        padded = node.inputs[0] != IMAGE and graph.maker(node.inputs[0]).kind == "pad"
        return ("Pad", "MaxPool") if padded else ("MaxPool",)
    if kind == "mix":
        return ("Mul", "Add") if any(node.weights) else ("Add",)
    if kind in ("pool", "enlarge"):
        names = ("Pad", "AveragePool") if kind == "pool" else ("Resize", "Slice")
        if graph.completes(node):
            return names
        return names[1:] if kind == "pool" else names[:1]
    if kind == "maximum":
        size = () if never_negative(graph, node.inputs[0], None) else ("Abs",)
        over = ("ReduceMax",) if node.channels > 1 else ()
        return (*size, "GlobalMaxPool", *over, "Add", "Div")
    return {
        "pad": ("Pad",),
        "norm": ("ReduceMean", "Sub", "Mul", "Add", "Sqrt", "Div"),
        "sum": ("Conv",),
        "extend": ("Pad",),
        "crop": ("Slice",),
        "join": ("Concat",),
        "blend": ("Slice", "Mul", "Conv", "Add"),
        "moments": (
            *("ReduceMean", "Sub", "Mul", "Add", "Sqrt", "Div", "Tanh", "GlobalMaxPool", "Concat"),
        ),
        "modulate": ("Slice", "Mul", "Add"),
        "peak": ("GlobalMaxPool",),
        "times": ("Mul",),
        "over": ("Add", "Div"),
    }[kind]
