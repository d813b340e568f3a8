"""The C header of a network, and the memory that header and source need."""

import re
from collections.abc import Sequence
from string import Template
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.export.c.stages import Plan
from clapp.filters.learned.settings import Setting
from clapp.models.graph.nodes import Graph

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


class Code(NamedTuple):
    """A header, its source, and their memory.

    Attributes:
        name: the prefix of all names they define.
        plan: the plan of the rows.
        weight_bytes: bytes of the constants in the source.
        line_bytes: bytes of the workspace: per pixel of width, per pixel of half the width (rounded
            up), and constant.
    """

    name: str
    header: str
    source: str
    plan: Plan
    weight_bytes: int
    line_bytes: tuple[int, int, int]
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
        full, half, rest = self.line_bytes
        return full * width + half * ((width + 1) // 2) + rest


def identifier(text: str) -> str:
    """A text as the beginning of C names."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower()
    return name if name[:1].isalpha() else f"filter_{name}"


def header_text(
    graph: Graph,
    name: str,
    title: str,
    least: int,
    space: tuple[int, int, int],
    *,
    uint8: bool,
    math: str,
    kinds: tuple[str, str] = ("float", "float"),
    ranges: tuple[str, str] = ("floats in [0, 1]", "floats, not clamped to [0, 1]"),
    settings: Sequence[Setting] = (),
) -> str:
    """The header; `kinds` are the types of the result and of the workspace."""
    full, half, rest = space
    if kinds[1] == "int32_t":  # a row of sums, and levels in bytes
        inner = [f"(size_t)(width) * {full}"] if full else []
        inner += [f"((size_t)(width) + 1) / 2 * {half}"] if half else []
        lines = f"({' + '.join([*inner, str(rest + 3)])}) / 4"
        terms = [f"(size_t)(width) + {lines}"]
    else:
        terms = _terms(full, half, rest)
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


def _terms(full: int, half: int, rest: int) -> list[str]:
    terms = [f"(size_t)(width) * {full}"] if full else []
    terms += [f"((size_t)(width) + 1) / 2 * {half}"] if half else []
    return [*terms, str(rest)] if rest or not terms else terms


def workspace(plan: Plan) -> tuple[int, int, int]:
    """Floats of the workspace: per pixel of width, per pixel of half the width, and constant."""
    each, rest = {1: 0, 2: 0}, 0
    for stage in plan.stages:
        each[stage.level] += stage.depth * stage.channels
        rest += stage.depth * stage.channels * 2 * stage.pad
    level, pad = zeros_row(plan)
    if level:
        each[level] += 1
        rest += 2 * pad
    return each[1], each[2], rest


def zeros_row(plan: Plan) -> tuple[int, int]:
    """Scale level and padding of the row of zeros above and below a picture; level 0: no row is
    needed."""
    found = [
        (plan.stages[source].level, plan.stages[source].pad)
        for stage in plan.stages
        if stage.node is not None
        and stage.node.kind == "conv"
        and stage.node.border in ("zero", "none")
        and stage.node.reach[0]
        and (source := plan.sources[stage.node.inputs[0]]) >= 0
    ]
    if not found:
        return 0, 0
    return min(level for level, _ in found), max(pad for _, pad in found)
