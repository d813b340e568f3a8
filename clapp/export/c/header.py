"""The C header of a network, and the memory that header and source need."""

import re
from collections.abc import Sequence
from string import Template
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.export.c.stages import Plan
from clapp.filters.learned.settings import Setting
from clapp.models.graph.nodes import Graph, Size

_HEADER = Template("""\
/* $title
 *
 * Made by CLAPP. C99 without malloc and stdio; $math.
 * For speed compile with -O3 -fno-math-errno, and let the compiler use the machine's instructions.
 */
#ifndef ${UPPER}_H
#define ${UPPER}_H

#include <stddef.h>
$include
#ifdef __cplusplus
extern "C" {
#endif

#define ${UPPER}_INPUT_CHANNELS $inputs
#define ${UPPER}_OUTPUT_CHANNELS $outputs
#define ${UPPER}_MIN_SIZE $least

/* $unit of working memory for pictures of a width in pixels; their height does not matter. */
#define ${UPPER}_WORKSPACE(width) ($workspace)

/* Filter one picture.
 *
 * image: $inputs planes (red, green, blue) of height x width $input, row after row.
 * output: $outputs plane(s) of height x width $output; not the image's memory.
 * workspace: ${UPPER}_WORKSPACE(width) $type, of any content.
$adjusts * Returns 0, or -1 where a side is smaller than ${UPPER}_MIN_SIZE; then nothing is written.
 */
int ${name}_run(const $kind *image, int height, int width, $more$result *output, $type *workspace);

#ifdef __cplusplus
}
#endif

#endif
""")


class Space(NamedTuple):
    """Memory that depends on the width of a picture.

    Attributes:
        each: how many units per pixel of rows of a size.
        rest: units beside them.
    """

    each: dict[Size, int]
    rest: int

    def of(self, width: int) -> int:
        """Units for pictures of a width."""
        return sum(count * size.of(width) for size, count in self.each.items()) + self.rest

    def times(self, factor: int) -> "Space":
        """In smaller units."""
        return Space({size: n * factor for size, n in self.each.items()}, self.rest * factor)

    def terms(self) -> list[str]:
        """It as terms of a sum in C."""
        each = sorted(self.each.items())
        terms = [f"{wide('(size_t)(width)', size)} * {count}" for size, count in each]
        return [*terms, str(self.rest)] if self.rest or not terms else terms

    def words(self) -> str:
        """It as a sum, in words."""
        terms = [f"{count} x {_width(size)}" for size, count in sorted(self.each.items())]
        return " + ".join([*terms, str(self.rest)])


def wide(text: str, size: Size) -> str:
    """A C expression of the width of a size, from that of the picture's width."""
    if size == Size():
        return text
    level, grid = size
    factor = f" * {grid // level}" if grid > level else ""
    return f"({text} + {grid - 1}) / {grid}{factor}"


def _width(size: Size) -> str:
    level, grid = size
    part = "width" if level == 1 else "half the width" if level == 2 else f"1/{level} of the width"
    return part if grid <= 2 else f"{part} (rounded up to a multiple of {grid})"


class Code(NamedTuple):
    """A header, its source, and their memory.

    Attributes:
        name: the prefix of all names they define.
        plan: the plan of the rows.
        weight_bytes: bytes of the constants in the source.
        space: bytes of the workspace.
    """

    name: str
    header: str
    source: str
    plan: Plan
    weight_bytes: int
    space: Space
    output_channels: int
    file: str = "model"
    """Name of the two files without their suffix."""
    quantised: tuple[float, int] | None = None
    """Scale and zero point of an int8 result; None: it is float."""
    settings: tuple[Setting, ...] = ()
    """Arguments of the function after the picture's width."""

    @property
    def dtype(self) -> Any:
        """The type of the result."""
        return np.float32 if self.quantised is None else np.int8

    def as_float(self, output: NDArray[Any]) -> NDArray[np.float32]:
        """A result in the units of the network."""
        if self.quantised is None:
            return output
        scale, zero = self.quantised
        return (output.astype(np.float32) - np.float32(zero)) * np.float32(scale)

    def ram(self, width: int) -> int:
        """Bytes of the workspace for pictures of a width."""
        return self.space.of(width)


def identifier(text: str) -> str:
    """A text as the beginning of C names."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower()
    return name if name[:1].isalpha() else f"filter_{name}"


def header_text(
    graph: Graph,
    name: str,
    title: str,
    least: int,
    space: Space,
    *,
    uint8: bool,
    math: str,
    kinds: tuple[str, str] = ("float", "float"),
    sums: Size | None = None,
    ranges: tuple[str, str] = ("floats in [0, 1]", "floats, not clamped to [0, 1]"),
    settings: Sequence[Setting] = (),
) -> str:
    """The header.

    Args:
        space: of the workspace; in bytes where it has sums.
        kinds: the types of the result and of the workspace.
        sums: the size of a row of sums, which the workspace begins with.
    """
    terms = space.terms()
    if sums is not None:
        lines = f"({' + '.join(space._replace(rest=space.rest + 3).terms())}) / 4"
        terms = [f"{wide('(size_t)(width)', sums)} + {lines}"]
    fixed = uint8 or kinds[0] != "float"
    return _HEADER.substitute(
        title=title,
        math=math,
        UPPER=name.upper(),
        name=name,
        include="#include <stdint.h>\n" if fixed else "",
        inputs=graph.input_channels - len(settings),
        more=arguments(settings),
        adjusts="".join(f" * {identifier(s.name)}: {s.allowed}.\n" for s in settings),
        outputs=graph.output_channels,
        least=least,
        unit="Floats" if kinds[1] == "float" else "Words of 32 bits",
        workspace=" + ".join(terms),
        input="levels from 0 to 255" if uint8 else ranges[0],
        output=ranges[1],
        kind="uint8_t" if uint8 else "float",
        result=kinds[0],
        type=kinds[1],
    )


def arguments(settings: Sequence[Setting]) -> str:
    """The settings as arguments of the function."""
    return "".join(f"float {identifier(s.name)}, " for s in settings)


def workspace(plan: Plan) -> Space:
    """Values in the workspace."""
    each: dict[Size, int] = {}
    rest = 0
    for stage in plan.stages:
        count = stage.depth * stage.channels
        each[stage.size] = each.get(stage.size, 0) + count
        rest += count * 2 * stage.pad
    size, pad = zeros_row(plan)
    if size is not None:
        each[size] = each.get(size, 0) + 1
        rest += 2 * pad
    return Space({size: count for size, count in each.items() if count}, rest)


def zeros_row(plan: Plan) -> tuple[Size | None, int]:
    """Size and padding of the row of zeros above and below a value; None: no row is needed."""
    found = [
        (plan.stages[source].size, plan.stages[source].pad)
        for stage in plan.stages
        if stage.node is not None
        and stage.node.kind == "conv"
        and stage.node.border in ("zero", "none")
        and stage.node.reach[0]
        and (source := plan.sources[stage.node.inputs[0]]) >= 0
    ]
    if not found:
        return None, 0
    sizes = {size for size, _ in found}
    return sizes.pop() if len(sizes) == 1 else plan.widest, max(pad for _, pad in found)
