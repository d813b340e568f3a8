"""Plan how to compute a network row by row: the rows kept in memory, and the number of passes.

Each stage computes one row of a value at a time, when a later stage needs it, and keeps the rows
that are still needed in a ring buffer. Steps that only change a row in place belong to the stage
that computes the row.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from clapp.models.graph.nodes import ELEMENTWISE, IMAGE, Graph, Node, Size, unrounded

_IN_PLACE = ("function", "mix", "norm", "pad", "modulate")


@dataclass
class Stage:
    """Computes the rows of one value.

    Attributes:
        node: the step that computes a row; None: the picture is copied. A step of `_IN_PLACE` here
            copies its input first.
        changes: steps that then change the row in place.
        value: the name of the result.
        moments: steps that take statistics of the result.
        depth: number of rows kept; 0: the value is in the caller's memory (picture or result).
        pad: pixels left and right of a row, filled as `border` says.
    """

    node: Node | None
    value: str
    channels: int
    size: Size
    changes: list[Node] = field(default_factory=list)
    moments: list[Node] = field(default_factory=list)
    depth: int = 0
    pad: int = 0
    border: str = "zero"

    @property
    def norms(self) -> list[Node]:
        """The steps in `changes` that need statistics of the whole picture."""
        return [node for node in self.changes if node.kind == "norm"]


class Plan(NamedTuple):
    """All stages in order, and the final division, if any.

    Attributes:
        sources: value -> the number of the stage that computes it; -1 is the picture.
        maximum: the step that divides by the largest magnitude, or None.
        pixels: steps that make values of one pixel from others.
    """

    stages: list[Stage]
    sources: dict[str, int]
    maximum: Node | None
    pixels: list[Node]

    @property
    def gathers(self) -> list[tuple[int, Node]]:
        """The steps that need statistics of a whole value, each with the number of its stage."""
        stages = enumerate(self.stages)
        return [(n, node) for n, stage in stages for node in (*stage.norms, *stage.moments)]

    @property
    def passes(self) -> int:
        """The number of passes over the picture: one for each of `gathers`, and one for the
        result."""
        return 1 + len(self.gathers)

    @property
    def sizes(self) -> list[Size]:
        """The sizes of all values, that of the picture first."""
        return sorted({Size(), *(stage.size for stage in self.stages)})

    def number(self, size: Size) -> int:
        """The place of a size in `sizes`."""
        return self.sizes.index(size)

    @property
    def widest(self) -> Size:
        """A size as wide as any."""
        return Size(1, max((s.grid for s in self.sizes if s.grid > s.level), default=1))

    def inputs(self, stage: Stage) -> list[str]:
        """The inputs of the stage, including those of its changes."""
        taken = [] if stage.node is None else list(stage.node.inputs)
        made = {stage.node.output if stage.node else IMAGE, *(n.output for n in stage.changes)}
        for node in stage.changes:
            taken += [name for name in node.inputs if name not in made]
        return [name for name in taken if name in self.sources]


def plan_stages(graph: Graph, *, copied: bool) -> Plan:
    """The stages of a graph.

    Args:
        copied: the picture has another type than the rows, so each of its rows is converted.
    """
    nodes, floats = list(graph.nodes), unrounded(graph)
    maximum = nodes.pop() if nodes[-1].kind == "maximum" else None
    pixels = [node for node in nodes if node.output in floats and node.kind != "moments"]
    stages: list[Stage] = []
    sources = {IMAGE: -1}
    if copied or any(max(node.reach) for node in graph.users(IMAGE)):
        stages.append(Stage(None, IMAGE, graph.input_channels, Size()))
        sources[IMAGE] = 0
    for node in nodes:
        first = node.inputs[0]
        owner = sources.get(first, -1)
        if node.output in floats:
            if node.kind == "moments":
                assert owner >= 0
                stages[owner].moments.append(node)
            continue
        alone = len(graph.users(first)) == 1 and first != IMAGE
        if node.kind in _IN_PLACE and alone and owner >= 0 and stages[owner].value == first:
            stage = stages[owner]
            stage.changes.append(node)
            stage.value = node.output
            sources[node.output] = owner
        else:
            in_place = node.kind in _IN_PLACE
            stage = Stage(node, node.output, node.channels, node.size)
            if in_place:
                stage.changes.append(node)
            stages.append(stage)
            sources[node.output] = len(stages) - 1
    _move_late_inputs(stages, sources)
    plan = Plan(stages, sources, maximum, pixels)
    _set_borders(plan, graph)
    _set_depths(plan, graph)
    stages[-1].depth = 0
    return plan


def _move_late_inputs(stages: list[Stage], sources: dict[str, int]) -> None:
    """Move steps whose second input is computed after their stage to a later stage of their own."""
    for number, stage in enumerate(stages):
        for node in stage.changes:
            assert all(sources.get(name, -1) <= number for name in node.inputs)


def _set_borders(plan: Plan, graph: Graph) -> None:
    for stage in plan.stages:
        for node in graph.users(stage.value):
            if node.kind in ELEMENTWISE or not node.reach[1]:
                continue
            stage.pad = node.reach[1]
            modes = {"none": "zero"}
            stage.border = (
                "replicate" if node.kind == "window" else modes.get(node.border, node.border)
            )


def rows_taken(node: Node | None, row: int, height: int, factor: int = 1) -> list[int]:
    """The rows of a step's first input, `height` high, that it needs for one row of its output.

    Args:
        factor: by how much a pool or an enlarge changes the resolution.
    """
    if node is None:
        return [row]
    if node.kind == "conv":
        reach = node.reach[0]
        rows = range(row - reach, row + reach + 1, node.dilation)
        return [inside(r, height, node.border) for r in rows if _is_row(r, height, node.border)]
    if node.kind == "window":
        return [inside(r, height, "replicate") for r in (row - 1, row, row + 1)]
    rows = range(row, row + 1)
    if node.kind == "pool":
        rows = range(factor * row, factor * row + factor)
    elif node.kind == "enlarge":
        below = (2 * row + factor + 1) // (2 * factor)
        rows = range(below - 1, below + 1)
    return [inside(r, height, "replicate") for r in rows]


def inside(row: int, height: int, border: str) -> int:
    """The row inside of the picture that replaces a row outside."""
    if border == "reflect":
        row = abs(row)
        return row if row < height else 2 * (height - 1) - row
    return min(max(row, 0), height - 1)


def _is_row(row: int, height: int, border: str) -> bool:
    return border in ("reflect", "replicate") or 0 <= row < height


def _set_depths(plan: Plan, graph: Graph) -> None:
    """Simulate the computation to find how many rows of each value must be kept."""
    reach = sum(
        stage.node.reach[0] * stage.size.level for stage in plan.stages if stage.node is not None
    )
    least = 2 * max((n.reach[0] for s in plan.stages if (n := s.node) is not None), default=0) + 1
    for height in (*range(least, least + 6), *range(4 * reach + 20, 4 * reach + 24)):
        for number, depth in enumerate(_depths(plan, graph, height)):
            plan.stages[number].depth = max(plan.stages[number].depth, depth)


def _depths(plan: Plan, graph: Graph, height: int) -> list[int]:
    made = [0] * len(plan.stages)  # rows of each stage so far
    depths = [1] * len(plan.stages)

    def wanted(stage: Stage, row: int) -> Iterator[tuple[int, int]]:
        node = stage.node
        for position, name in enumerate(plan.inputs(stage)):
            source = plan.sources[name]
            if source < 0:
                continue
            rows = [row]
            if position == 0:
                resized = node is not None and node.kind in ("pool", "enlarge")
                factor = graph.factor(node) if node is not None and resized else 1
                rows = rows_taken(node, row, plan.stages[source].size.of(height), factor)
            yield from ((source, r) for r in rows)

    def make(number: int, last: int) -> None:
        while made[number] <= last:
            row = made[number]
            needs = list(wanted(plan.stages[number], row))
            for source, r in needs:
                make(source, r)
            for source, r in needs:
                depths[source] = max(depths[source], made[source] - r)
            made[number] += 1

    make(len(plan.stages) - 1, height - 1)
    return depths
