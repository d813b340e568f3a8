"""The steps of a network as a target takes them: what it does not run is said by other steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clapp.models.graph.nodes import (
    LEAK,
    MAX_EPS,
    OUTPUT,
    Graph,
    Node,
    Size,
    never_negative,
)
from clapp.models.graph.run import run_graph
from clapp.models.targets.pieces import Pieces, fit_pieces
from clapp.models.targets.profile import FITTED, Profile

State = dict[str, Tensor]
_SAMPLES = 4096  # of a value, from each picture


class Fitted(NamedTuple):
    """The steps of a network for a target.

    Attributes:
        exact: functions that are written by others without any loss.
        lossy: functions that are nearly the same.
    """

    graph: Graph
    state: State
    exact: tuple[str, ...] = ()
    lossy: tuple[str, ...] = ()

    def computed(self, image: Tensor) -> Tensor:
        """What PyTorch computes with these steps."""
        return run_graph(self.graph, self.state, image, lambda _, value: value)


def rewrite(graph: Graph, state: State, profile: Profile, pictures: Callable[[], Tensor]) -> Fitted:
    """The steps for a target.

    Absolute values and leaky ReLU become pairs of ReLU; the largest value of a picture is a maximum
    pooling, and of channels `a + relu(b - a)`: without any loss. Functions that do not run, and the
    reciprocal of the maximum where there is no division, become straight pieces, fitted on
    `pictures`, (N, C, H, W) in [0, 1].
    """
    writer = _Writer(graph, state, profile, pictures)
    for node in graph.nodes:
        writer.step(node)
    return Fitted(
        Graph(tuple(writer.nodes), graph.input_channels),
        state | writer.added,
        tuple(dict.fromkeys(writer.exact)),
        tuple(dict.fromkeys(writer.lossy)),
    )


class _Writer:
    def __init__(
        self, graph: Graph, state: State, profile: Profile, pictures: Callable[[], Tensor]
    ) -> None:
        self._graph, self._state, self._profile, self._pictures = graph, state, profile, pictures
        self._seen: dict[str, Tensor] | None = None
        self.nodes: list[Node] = []
        self.added: State = {}
        self.exact: list[str] = []
        self.lossy: list[str] = []

    def step(self, node: Node) -> None:
        """Add a step as it is, or others that say the same."""
        refused = self._profile.in_the_way(self._graph, node)
        name = node.inputs[0]
        if not refused or node.kind not in ("function", "maximum"):
            self.nodes.append(node)
        elif node.kind == "maximum":
            self._maximum(node, refused)
        elif node.function in FITTED:
            self.lossy.append(node.function)
            function = _numpy(node.function)
            samples = self._samples(name)
            self._pieces(name, node.channels, fit_pieces(function, samples), node.output)
        else:
            self.exact.append(node.function)
            negative = -LEAK if node.function == "leaky_relu" else None
            self._by_relu(name, node.channels, node.output, negative)

    def _add(
        self, kind: str, inputs: tuple[str, ...], channels: int, output: str, **how: Any
    ) -> str:
        sizes = {node.output: node.size for node in self.nodes}
        size = sizes.get(inputs[0], Size())
        self.nodes.append(Node(kind, inputs, output, channels, size, **how))
        return output

    def _name(self, what: str) -> str:
        return f"{what}{len(self.nodes)}"

    def _weight(self, values: NDArray[Any]) -> str:
        name = f"target.{len(self.added)}"
        self.added[name] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        return name

    def _conv(
        self,
        value: str,
        kernel: NDArray[Any],
        bias: NDArray[Any] | None = None,
        groups: int = 1,
        output: str | None = None,
    ) -> str:
        """A convolution of one pixel with a kernel (O, I)."""
        weights = (
            self._weight(kernel[:, :, None, None]),
            None if bias is None else self._weight(bias),
        )
        name = output or self._name("part")
        return self._add("conv", (value,), len(kernel), name, weights=weights, groups=groups)

    def _relu(self, value: str, channels: int, most: float | None = None) -> str:
        name = self._name("part")
        return self._add("function", (value,), channels, name, function="relu", most=most)

    def _by_relu(self, x: str, channels: int, output: str, negative: float | None) -> str:
        """relu(x) + negative * relu(-x), with a factor of 1 where `negative` is None."""
        positive = self._relu(x, channels)
        mirrored = self._conv(x, np.full((channels, 1), -1.0), groups=channels)
        below = self._relu(mirrored, channels)
        factor = None
        if negative is not None:
            factor = self._weight(np.full((1, channels, 1, 1), negative))
        return self._add("mix", (positive, below), channels, output, weights=(None, factor))

    def _pieces(self, x: str, channels: int, pieces: Pieces, output: str) -> str:
        """The sum over the pieces of their rise times clip((x - knot) / width, 0, 1).

        clip(u) is relu(1 - relu(1 - u)); all parts are positive, so that nothing cancels in int8.
        """
        starts, widths = pieces.knots[:-1], np.diff(pieces.knots)
        count = len(widths)
        falls = np.tile(-1 / widths, channels)[:, None]
        groups = channels
        if channels > 1 and not self._profile.multiplies_channels:
            falls, groups = _spread(falls, channels), 1
        parts = channels * count
        over = self._conv(x, falls, np.tile(1 + starts / widths, channels), groups)
        over = self._relu(over, parts, most=1.0)  # the next ReLU is 0 from there on
        clipped = self._conv(over, np.full((parts, 1), -1.0), np.ones(parts), groups=parts)
        clipped = self._relu(clipped, parts)
        rises = _spread(np.tile(np.diff(pieces.values), channels)[:, None], channels).T
        first = np.full(channels, pieces.values[0])
        return self._conv(clipped, rises, first, output=output)

    def _maximum(self, node: Node, refused: set[str]) -> None:
        x, channels = node.inputs[0], node.channels
        size = x
        self.exact.append("maximum")
        if not never_negative(self._graph, x, self._state):
            if "Abs" in refused:
                size = self._by_relu(x, channels, self._name("size"), None)
            else:
                size = self._add("function", (x,), channels, self._name("size"), function="abs")
        largest = self._largest(self._add("peak", (size,), channels, self._name("peak")), channels)
        if "Div" not in refused:
            self._add("over", (x, largest), channels, node.output)
            return
        self.lossy.append("maximum")
        peaks = self._peaks(x)
        ends = np.linspace(peaks.min() / 2, max(peaks.max() * 1.25, 2 * MAX_EPS), 1000)
        inverse = fit_pieces(lambda v: 1 / (v + MAX_EPS), ends)
        factor = self._pieces(largest, 1, inverse, self._name("factor"))
        self._add("times", (x, factor), channels, node.output)

    def _largest(self, peak: str, channels: int) -> str:
        """The largest of all channels: a + relu(b - a), one after the other."""
        if channels == 1:
            return peak
        rows = np.eye(channels)
        largest = self._conv(peak, rows[:1])
        for channel in range(1, channels):
            other = self._conv(peak, rows[channel : channel + 1])
            weights = (None, self._weight(np.full((1, 1, 1, 1), -1.0)))
            more = self._add("mix", (other, largest), 1, self._name("part"), weights=weights)
            both = (largest, self._relu(more, 1))
            largest = self._add("mix", both, 1, self._name("part"), weights=(None, None))
        return largest

    def _values(self) -> dict[str, Tensor]:
        """Samples of every value on the pictures, and their largest magnitudes."""
        if self._seen is None:
            parts: dict[str, list[Tensor]] = {}

            def look(name: str, value: Tensor) -> Tensor:
                flat = value.flatten()
                ends = torch.stack([flat.min(), flat.max()])
                few = torch.cat([flat[:: max(1, len(flat) // _SAMPLES)], ends])
                parts.setdefault(name, []).append(few)
                parts.setdefault(f"largest {name}", []).append(flat.abs().max()[None])
                return value

            with torch.no_grad():
                for picture in self._pictures():
                    run_graph(self._graph, self._state, picture[None], look)
            self._seen = {name: torch.cat(values) for name, values in parts.items()}
        return self._seen

    def _samples(self, name: str) -> NDArray[np.float64]:
        return self._values()[name].numpy().astype(np.float64)

    def _peaks(self, name: str) -> NDArray[np.float64]:
        return self._samples(f"largest {name}")


def _numpy(function: str) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    alone = Graph((Node("function", ("image",), OUTPUT, 1, function=function),), 1)

    def of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        given = torch.from_numpy(values)[None, None, None]
        found: NDArray[np.float64] = run_graph(alone, {}, given, lambda _, v: v)[0, 0, 0].numpy()
        return found

    return of


def _spread(column: NDArray[Any], channels: int) -> NDArray[Any]:
    """Numbers of channels (channels * K, 1) as a matrix (channels * K, channels), zero between."""
    count = len(column) // channels
    full = np.zeros((len(column), channels))
    for channel in range(channels):
        part = slice(channel * count, (channel + 1) * count)
        full[part, channel] = column[part, 0]
    return full
