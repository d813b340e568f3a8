"""C statements that compute the rows of each stage, and the functions and weights they use."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clapp.export.c import pixels, resizing, rows
from clapp.export.c.header import identifier
from clapp.export.c.stages import Plan, Stage
from clapp.models.graph.nodes import Graph, Node

Weights = Mapping[str, NDArray[np.float32]]


class Statements:
    """Writes statements; collects `helpers` (C functions) and `constants` (weights) on the way."""

    def __init__(
        self, graph: Graph, weights: Weights, plan: Plan, uint8: bool, settings: int = 0
    ) -> None:
        self.graph, self._weights, self.plan, self._uint8 = graph, weights, plan, uint8
        self._settings = settings  # how many of the picture's channels are constant
        self.gathers = plan.gathers
        self.helpers: dict[str, str] = {}
        self.constants: dict[str, str] = {}
        self.weight_bytes = 0

    def use(self, name: str, text: str) -> None:
        """Add a C function to the file, once."""
        self.helpers.setdefault(name, text)

    def constant(self, name: str | None) -> str:
        """The C name of stored weights."""
        assert name is not None
        c_name = identifier(f"w_{name}")
        if c_name not in self.constants:
            values = self._weights[name].ravel()
            self.weight_bytes += values.nbytes
            lines, line = [], "   "
            for value in values:
                text = f" {rows.number(float(value))},"
                if len(line) + len(text) > 96:
                    lines.append(line)
                    line = "   "
                line += text
            body = "\n".join([*lines, line])
            self.constants[c_name] = (
                f"static const float {c_name}[{len(values)}] = {{\n{body}\n}};\n"
            )
        return c_name

    def lines(self, value: str) -> str:
        """A C expression that points to the rows of a value."""
        return f"&net->l[{self.plan.sources[value] + 1}]"

    def make(self, stage: Stage) -> list[str]:
        """Statements that compute row `row` of a stage, before its changes."""
        node = stage.node
        if node is None:
            return self._copy_picture(stage)
        if node.kind == "conv":
            return self._conv(node)
        source = self.lines(node.inputs[0])
        each = f"for (int c = 0; c < {node.channels}; c++)"
        if node.kind == "sum":
            size = self.graph.channels(node.inputs[0]) // node.channels
            self.use("add", rows.ADD)
            return [
                f"for (int c = 0; c < {node.channels}; c++) {{",
                "    fill(line(own, row, c), 0.0f, n);",
                f"    for (int i = c * {size}; i < (c + 1) * {size}; i++)",
                f"        add(line(own, row, c), line({source}, row, i), n);",
                "}",
            ]
        if node.kind == "window":
            self.use("replicate", rows.INSIDE["replicate"])
            self.use(node.function, rows.window(node.function))
            taken = [f"line({source}, replicate(row + {k}, height), c)" for k in (-1, 0, 1)]
            return [
                each,
                f"    {node.function}(line(own, row, c), {taken[0]},",
                f"         {taken[1]}, {taken[2]}, n);",
            ]
        if node.kind in resizing.KINDS:
            return resizing.float_rows(self, node)
        self.use("add", rows.ADD)  # copy the value first, since other steps need it unchanged
        return [
            f"for (int c = 0; c < {node.channels}; c++) {{",
            "    fill(line(own, row, c), 0.0f, n);",
            f"    add(line(own, row, c), line({source}, row, c), n);",
            "}",
        ]

    def _copy_picture(self, stage: Stage) -> list[str]:
        factor = " * (1.0f / 255.0f)" if self._uint8 else ""
        kind = "uint8_t" if self._uint8 else "float"
        return [
            f"for (int c = 0; c < {stage.channels - self._settings}; c++) {{",
            f"    const {kind} *in = net->image + ((size_t)c * height + row) * n;",
            "    float *out = line(own, row, c);",
            "    for (int x = 0; x < n; x++)",
            f"        out[x] = in[x]{factor};",
            "}",
            *self._planes(stage),
        ]

    def _planes(self, stage: Stage) -> list[str]:
        """Statements that fill the channels of the settings."""
        start = stage.channels - self._settings
        return [
            f"fill(line(own, row, {start + number}), net->setting[{number}], n);"
            for number in range(self._settings)
        ]

    def _conv(self, node: Node) -> list[str]:
        per = self.graph.channels(node.inputs[0]) // node.groups
        of_group = node.channels // node.groups
        kernel, bias = node.weights
        taps, area = node.kernel[0], node.kernel[0] * node.kernel[1]
        self.use(rows.taps_name(node), rows.taps(node))
        start = f"{self.constant(bias)}[o]" if bias is not None else "0.0f"
        channel = f"o / {of_group} * {per} + i" if node.groups > 1 else "i"
        return [
            f"for (int o = 0; o < {node.channels}; o++) {{",
            "    float *out = line(own, row, o);",
            f"    fill(out, {start}, n);",
            f"    for (int i = 0; i < {per}; i++) {{",
            f"        const float *taken[{taps}];",
            f"        for (int k = 0; k < {taps}; k++) {{",
            *(f"            {text}" for text in self._row_of(node, channel)),
            "        }",
            f"        {rows.taps_name(node)}(out, taken, {self.constant(kernel)} "
            f"+ (o * {per} + i) * {area}, n);",
            "    }",
            "}",
        ]

    def _row_of(self, node: Node, channel: str) -> list[str]:
        """Statements that find row k of a kernel."""
        source = self.lines(node.inputs[0])
        if not node.reach[0]:
            return [f"taken[k] = line({source}, row, {channel});"]
        where = f"row + (k - {node.kernel[0] // 2}) * {node.dilation}"
        if node.border in ("reflect", "replicate"):
            self.use(node.border, rows.INSIDE[node.border])
            return [f"taken[k] = line({source}, {node.border}({where}, height), {channel});"]
        return [
            f"const int y = {where};",
            f"taken[k] = y < 0 || y >= height ? net->zeros : line({source}, y, {channel});",
        ]

    def change(self, number: int, node: Node) -> list[str]:
        """Statements that change row `row` of stage `number`."""
        each = f"for (int c = 0; c < {node.channels}; c++)"
        if node.kind == "function":
            self.use(node.function, rows.function(node.function))
            return [each, f"    each_{node.function}(line(own, row, c), n);"]
        if node.kind == "pad":
            self.use("frame", rows.FRAME)
            high, wide = node.outside
            return [each, f"    frame(line(own, row, c), row, height, n, {high}, {wide});"]
        if node.kind == "mix":
            self.use("mix", rows.MIX)
            a, b = (
                "1.0f" if name is None else f"{self.constant(name)}[c]" for name in node.weights
            )
            other = f"line({self.lines(node.inputs[1])}, row, c)"
            return [each, f"    mix(line(own, row, c), {a}, {other}, {b}, n);"]
        if node.kind == "modulate":
            self.use("modulate", pixels.MODULATE)
            known = f"net->{pixels.name_of(node.inputs[1])}"
            call = (
                f"modulate(line(own, row, c), 1.0f + {known}[c], {known}[{node.channels} + c], n);"
            )
            return [each, f"    {call}"]
        assert node.kind == "norm"
        self.use("norm", rows.NORM)
        index = self.gathers.index((number, node))
        weight, bias = (self.constant(name) for name in node.weights)
        return [
            f"if (net->pass == {index}) {{",
            f"    {each}",
            f"        collect(&net->s[{index}], line(own, row, c), n);",
            "    continue;",
            "}",
            each,
            f"    normalise(line(own, row, c), &net->s[{index}], {weight}[c], {bias}[c], n);",
        ]

    _types = "float", "double"
    """C types of pixels, and of sums of all of them."""

    def collect(self, number: int, stage: Stage) -> list[str]:
        """Statements that take in row `row` of stage `number` for statistics of its value."""
        text = []
        for node in stage.moments:
            most = max(node.channels for _, node in self.gathers) // 4
            self.use("moments", pixels.moments(most, *self._types))
            index = self.gathers.index((number, node))
            text += [
                f"if (net->pass == {index})",
                f"    for (int c = 0; c < {stage.channels}; c++)",
                f"        collect_moments(&net->m[{index}], c, line(own, row, c), n, !row);",
            ]
        return text

    def finish(self, index: int) -> list[str]:
        """Statements that follow the pass that gathers statistics."""
        number, node = self.gathers[index]
        size = self.plan.number(self.plan.stages[number].size)
        pixels_of = f"(double)net.height[{size}] * net.width[{size}]"
        if node.kind == "norm":
            more = self.normalised_by(node)
            return [f"finish(&net.s[{index}], {pixels_of} * {node.channels}{more});"]
        step, zero = self.unit(self.plan.stages[number].value)
        text = [
            f"finish_moments(&net.m[{index}], {pixels_of}, {rows.number(step)}, {zero}, "
            f"{node.channels // 4},",
            f"               net.{pixels.name_of(node.output)});",
        ]
        known = {node.output}
        for one in self.plan.pixels:
            if known.issuperset(one.inputs):
                known.add(one.output)
                text += pixels.computed(self, one)
        return text

    def unit(self, _: str) -> tuple[float, int]:
        """Step and zero point of a value."""
        return 1.0, 0

    def normalised_by(self, _: Node) -> str:
        """What finishing the statistics of a normalisation needs beside the number of values."""
        return ""
