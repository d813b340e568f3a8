"""ONNX files whose networks need statistics of the whole picture, computed part by part.

Such a file takes maxima or means of whole planes. Its graph is cut there: what leads to one of them
is a graph of its own, which is run over all parts, and what follows takes the result as an input.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from clapp.inference.parts import Gather, Where

Array = NDArray[Any]
Feeds = dict[str, Array]
Run = Callable[[list[str], Feeds], list[Array]]
"""Runs a graph: names of its outputs, and its inputs by name."""
_WHOLE = {"GlobalMaxPool": ("max", (2, 3)), "GlobalAveragePool": ("mean", (2, 3))}
_OVER_AXES = {"ReduceMax": "max", "ReduceMean": "mean"}
_OTHERS = frozenset(
    (
        *("GroupNormalization", "InstanceNormalization", "LayerNormalization"),
        *("MeanVarianceNormalization", "LpNormalization", "GlobalLpPool", "CumSum", "TopK"),
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMin", "ReduceProd"),
        *("ReduceSum", "ReduceSumSquare", "Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin"),
    )
)
"""Operators that may look at whole planes in a way that is not gathered here."""


class Reduction(NamedTuple):
    """One statistic of whole planes.

    Attributes:
        kind: "max" or "mean".
        given: the name of the planes, (1, C, h, w).
        found: the name of the result, (1, C, 1, 1).
        nodes: names of the outputs of the operators that it replaces.
    """

    kind: str
    given: str
    found: str
    nodes: tuple[str, ...]


def reductions_of(model: ModelProto) -> list[Reduction] | None:
    """The statistics of a graph, in their order; None: it has others than means and maxima."""
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    found: list[Reduction] = []
    rows: dict[str, NodeProto] = {}  # means and maxima along rows alone, by their output
    for node in model.graph.node:
        kind, axes = _meaning(node, constants)
        if node.op_type in _OTHERS:
            return None
        if not set(axes) & {2, 3}:
            continue
        first = rows.pop(node.input[0], None)
        if axes == (3,) and kind:
            rows[node.output[0]] = node
        elif axes == (2,) and first is not None and _OVER_AXES[first.op_type] == kind:
            names = (first.output[0], node.output[0])
            found.append(Reduction(kind, first.input[0], node.output[0], names))
        elif axes == (2, 3) and kind:
            found.append(Reduction(kind, node.input[0], node.output[0], (node.output[0],)))
        else:
            return None
    return None if rows else found


def _meaning(node: NodeProto, constants: dict[str, Array]) -> tuple[str, tuple[int, ...]]:
    """What a node takes of planes, and along which axes; empty: nothing."""
    if node.op_type in _WHOLE:
        return _WHOLE[node.op_type]
    if node.op_type not in _OVER_AXES:
        return "", ()
    values = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    axes = values.get("axes")
    if axes is None and len(node.input) > 1:
        axes = constants.get(node.input[1])
    if axes is None or not values.get("keepdims", 1):
        return "", (2, 3)  # nothing that is known here
    return _OVER_AXES[node.op_type], tuple(sorted(int(axis) % 4 for axis in axes))


class Reduced:
    """A model in pieces, each from picture and statistics to the next statistic or the output.

    Args:
        path: an ONNX file, which has `reductions`.
        opened: opens a model, given as bytes.
    """

    def __init__(
        self, path: Path, reductions: list[Reduction], opened: Callable[[bytes], Run]
    ) -> None:
        model = onnx.load(path)
        self._image, self._output = model.graph.input[0].name, model.graph.output[0].name
        self._reductions = reductions
        replaced = {name for one in reductions for name in one.nodes}
        kept = [node for node in model.graph.node if node.output[0] not in replaced]
        wanted = [one.given for one in reductions] + [self._output]
        self._pieces = [_piece(model, kept, name, reductions) for name in wanted]
        self._runs = [opened(piece.SerializeToString()) for piece in self._pieces]

    def gathered(self, gather: Gather, prepared: Callable[[Array], Array]) -> Feeds:
        """All statistics of a picture, by the names of their results.

        Args:
            gather: shows the parts.
            prepared: turns a part into what the file's input takes.
        """
        known: Feeds = {}
        for number, one in enumerate(self._reductions):
            seen = _Seen(one.kind)

            def see(images: Array, where: Where, number: int = number, seen: _Seen = seen) -> None:
                planes = self._run(number, prepared(images), known)
                seen.add(planes[(..., *_coarser(where, images.shape, planes.shape))])

            gather(see)
            known[one.found] = seen.result()
        return known

    def apply(self, images: Array, known: Feeds) -> Array:
        """The output for a part, (1, C, h, w)."""
        return self._run(-1, images, known)

    def _run(self, number: int, images: Array, known: Feeds) -> Array:
        piece = self._pieces[number].graph
        given = {self._image: images, **known}
        feeds = {one.name: given[one.name] for one in piece.input}
        return self._runs[number]([piece.output[0].name], feeds)[0]


def _piece(
    model: ModelProto, nodes: Iterable[NodeProto], wanted: str, reductions: list[Reduction]
) -> ModelProto:
    """What of a graph leads to one value."""
    needed = {wanted}
    kept: list[NodeProto] = []
    for node in reversed(list(nodes)):
        if needed & set(node.output):
            kept.insert(0, node)
            needed |= {name for name in node.input if name}
    free = [
        helper.make_tensor_value_info(one.found, TensorProto.FLOAT, [1, None, 1, 1])
        for one in reductions
        if one.found in needed
    ]
    images = [one for one in model.graph.input if one.name in needed]
    graph = helper.make_graph(
        kept,
        model.graph.name,
        [*images, *free],
        [helper.make_tensor_value_info(wanted, TensorProto.FLOAT, [None] * 4)],
        [one for one in model.graph.initializer if one.name in needed],
    )
    return helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        functions=model.functions,
    )


class _Seen:
    """A mean in float64, or a maximum, of planes that come part by part."""

    def __init__(self, kind: str) -> None:
        self._kind, self._lock = kind, Lock()
        self._total: Array | None = None
        self._count = 0

    def add(self, planes: Array) -> None:
        """Take in a part of planes (1, C, h, w), from any thread."""
        if self._kind == "max":
            part = planes.max((2, 3), keepdims=True)
        else:
            part = planes.sum((2, 3), keepdims=True, dtype=np.float64)
        with self._lock:
            join = np.maximum if self._kind == "max" else np.add
            self._total = part if self._total is None else join(self._total, part)
            self._count += planes.shape[2] * planes.shape[3]

    def result(self) -> Array:
        """The statistic, float32 (1, C, 1, 1)."""
        assert self._total is not None  # a picture has pixels
        divisor = 1 if self._kind == "max" else self._count
        return (self._total / divisor).astype(np.float32)


def _coarser(where: Where, image: tuple[int, ...], planes: tuple[int, ...]) -> Where:
    """Where a part lies in planes of a lower resolution."""
    factors = [-(-side // size) for side, size in zip(image[2:], planes[2:], strict=True)]
    rows, columns = (
        slice(part.start // factor, -(-part.stop // factor))
        for part, factor in zip(where, factors, strict=True)
    )
    return rows, columns
