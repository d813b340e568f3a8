"""The C source of a network in int8."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clapp.export.c import rows, rows_int8
from clapp.export.c.header import Code, Space, header_text, wide, workspace, zeros_row
from clapp.export.c.source import Emitter
from clapp.export.c.stages import Plan, Stage, plan_stages
from clapp.export.c.statements_int8 import Int8Statements
from clapp.filters.learned.settings import Setting
from clapp.models.graph.nodes import Graph
from clapp.training.int8.scales import Scales

Array = NDArray[np.float32]


def write_c_int8(
    graph: Graph,
    weights: Mapping[str, Array],
    scales: Scales,
    name: str,
    title: str,
    least: int,
    settings: Sequence[Setting] = (),
) -> Code:
    """The network in int8; pictures are levels from 0 to 255.

    Args:
        name, title, least, settings: see `clapp.export.c.source.write_c`.
    """
    plan = plan_stages(graph, copied=True)
    space, sums = workspace(plan), plan.widest
    last = scales["output"]
    header = header_text(
        graph,
        name,
        title,
        least,
        space,
        uint8=True,
        math="integers, and floats once a picture" if _has_floats(plan) else "integers only",
        kinds=("int8_t", "int32_t"),
        sums=sums,
        ranges=("", f"levels q; the result is {last.step:.9g} * (q - ({last.zero}))"),
        settings=settings,
    )
    emitter = _Int8Emitter(graph, weights, scales, plan, name, settings)
    source = emitter.text()
    each = space.each | {sums: space.each.get(sums, 0) + 4}
    return Code(
        name,
        header,
        source,
        plan,
        emitter.weight_bytes,
        Space(each, space.rest + 3),
        graph.output_channels,
        "model_int8",
        (last.step, last.zero),
        tuple(settings),
    )


def _has_floats(plan: Plan) -> bool:
    return plan.maximum is not None or plan.passes > 1


class _Int8Emitter(Emitter):
    kind, file, lines_text = "int8_t", "model_int8", rows_int8.LINES
    setting_kind = "int8_t"

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        scales: Scales,
        plan: Plan,
        name: str,
        settings: Sequence[Setting] = (),
    ) -> None:
        super().__init__(graph, weights, plan, name, True, settings)
        self._say: Int8Statements = Int8Statements(graph, weights, scales, plan, len(settings))

    def _includes(self) -> str:
        math = "\n#include <math.h>\n" if self._say.gathers else ""
        return f'#include "{self.file}.h"\n{math}'

    def _extra_state(self) -> str:
        peak = "    int peak;\n" if self._plan.maximum else ""
        zeros = "    int8_t *zeros;\n" if zeros_row(self._plan)[0] else ""
        return f"    int32_t *sum; /* of one row */\n{zeros}{self._gathered_state()}{peak}"

    def _edges(self, stage: Stage) -> str:
        if stage.border == "zero":
            self._say.use("fill", rows_int8.FILL)
        self._say.use(f"edges_{stage.border}", rows_int8.EDGES[stage.border])
        zero = f"{self._say.scale(stage.value).zero}, " if stage.border == "zero" else ""
        return f"edges_{stage.border}(line(own, row, c), {zero}n, {stage.pad});"

    def _peak(self, stage: Stage) -> str:
        self._say.use("largest", rows_int8.LARGEST)
        self._say.use("look_up", rows_int8.LOOK_UP)
        zero = self._say.scale(stage.value).zero
        return f"net->peak = largest(line(own, row, c), {zero}, n, net->peak);"

    def _begin(self) -> list[str]:
        return ["net.sum = workspace;"]

    def _set(self, number: int) -> str:
        self._say.use("level", rows_int8.LEVEL)
        return f"net.setting[{number}] = level({self._fraction(number)});"

    def _at(self) -> str:
        sums = wide("(size_t)width", self._plan.widest)
        return f"int8_t *at = (int8_t *)(workspace + {sums});"

    def _zeros(self, _: str, pad: int) -> list[str]:
        return [f"net.zeros = at + {pad};"]

    def _divide(self) -> list[str]:
        last = self._plan.stages[-1]
        into, out = self._say.scale(last.value), self._say.scale("output")
        steps = rows.number(into.step), rows.number(out.step)
        return [
            "int8_t table[256];",
            f"divide(table, net.peak, {steps[0]}, {into.zero}, {steps[1]}, {out.zero});",
            f"for (size_t i = 0; i < {self._graph.output_channels} * area; i += width)",
            "    look_up(output + i, table, width);",
        ]
