"""Lists of steps, written one after the other."""

from collections.abc import Callable
from typing import Any

from clapp.models.graph.nodes import FUNCTIONS, IMAGE, OUTPUT, Graph, Node, NoStepsError, Size


class Builder:
    """Collects steps; each method returns the name of the new value."""

    def __init__(self, input_channels: int) -> None:
        self._input_channels = input_channels
        self._nodes: list[Node] = []
        self._made: dict[str, Node] = {}

    def add(self, kind: str, value: str, channels: int, *others: str, **details: Any) -> str:
        """A step of any kind, of the size of its first input unless `details` say another."""
        name = f"value{len(self._nodes)}"
        details = {"size": self.size(value)} | details
        node = self._made[name] = Node(kind, (value, *others), name, channels, **details)
        self._nodes.append(node)
        return name

    def size(self, value: str) -> Size:
        """The sides of a value."""
        return Size() if value == IMAGE else self._made[value].size

    def channels(self, value: str) -> int:
        """Channels of a value."""
        return self._input_channels if value == IMAGE else self._made[value].channels

    def conv(self, value: str, channels: int, place: str, bias: bool = True, **details: Any) -> str:
        """A convolution whose weights are those of the module `place`."""
        weights = (f"{place}.weight", f"{place}.bias" if bias else None)
        return self.add("conv", value, channels, weights=weights, **details)

    def activation(self, value: str, name: str) -> str:
        """An activation.

        Raises:
            NoStepsError: it comes from outside of the package.
        """
        if name not in FUNCTIONS:
            raise NoStepsError(
                f"its activation {name} is known to PyTorch alone; allowed: {', '.join(FUNCTIONS)}"
            )
        if name == "none":
            return value
        kind = "window" if name in ("max3", "min3") else "function"
        return self.add(kind, value, self.channels(value), function=name)

    def pool(self, value: str, factor: int, grid: int) -> str:
        """Means of factor x factor pixels."""
        size = Size(self.size(value).level * factor, grid)
        return self.add("pool", value, self.channels(value), size=size)

    def enlarge(self, value: str, factor: int, grid: int) -> str:
        """Bilinear interpolation."""
        size = Size(self.size(value).level // factor, grid)
        return self.add("enlarge", value, self.channels(value), size=size)

    def extend(self, value: str, grid: int) -> str:
        """Sides that are multiples of `grid`."""
        if grid == 1:
            return value
        return self.add("extend", value, self.channels(value), size=Size(1, grid))

    def crop(self, value: str) -> str:
        """The picture's sides."""
        if self.size(value) == Size():
            return value
        return self.add("crop", value, self.channels(value), size=Size())

    def join(self, *values: str) -> str:
        """The channels of several values."""
        return self.add("join", values[0], sum(map(self.channels, values)), *values[1:])

    def through_u(
        self,
        value: str,
        depth: int,
        down: Callable[[str, int], str],
        up: Callable[[str, int], str],
    ) -> str:
        """The steps of `clapp.models.networks.shapes.through_u`.

        Args:
            value: extended to sides that can be halved so often.
            depth: how often the resolution is halved.
            down, up: add the stage of a level, 0 for full resolution, and return its result.
        """
        grid = self.size(value).grid
        value = down(value, 0)
        kept = []
        for level in range(1, depth + 1):
            kept.append(value)
            value = down(self.pool(value, 2, grid), level)
        for level in reversed(range(depth)):
            value = up(self.join(kept[level], self.enlarge(value, 2, grid)), level)
        return value

    def graph(self) -> Graph:
        """All steps; the last one makes the output."""
        last = Node(**{**self._nodes[-1].__dict__, "output": OUTPUT})
        return Graph((*self._nodes[:-1], last), self._input_channels)
