"""C statements of each step in int8: integers only, activations as lookup tables."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from clapp.export.c import pixels, resizing, rows, rows_int8
from clapp.export.c.stages import Plan, Stage
from clapp.export.c.statements import Statements
from clapp.models.graph.nodes import Graph, Node
from clapp.models.graph.run import run_graph
from clapp.training.int8.scales import Scale, Scales, fused, kernel_steps

Array = NDArray[np.float32]


def factor_of(value: float) -> tuple[int, int]:
    """A positive number as factor / 2^shift, with a factor below 2^31 and a shift from 1 to 62."""
    shift = min(max(31 - math.frexp(value)[1], 1), 62)
    return min(round(value * 2.0**shift), 2**31 - 1), shift


class Int8Statements(Statements):
    """Statements on rows of levels."""

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        scales: Scales,
        plan: Plan,
        settings: int,
    ) -> None:
        super().__init__(graph, weights, plan, True, settings)
        self._scales, self._exact = scales, fused(graph)
        self.normed: dict[str, tuple[str, str]] = {}

    def scale(self, value: str) -> Scale:
        """The scale of a value."""
        return self._scales[value]

    def array(self, name: str, kind: str, values: NDArray[np.int64], size: int) -> str:
        """Define an array of constants of `size` bytes each; returns its C name."""
        if name not in self.constants:
            self.weight_bytes += len(values) * size
            lines, line = [], "   "
            for value in values.tolist():
                if len(line) > 88:
                    lines.append(line)
                    line = "   "
                line += f" {value},"
            body = "\n".join([*lines, line])
            self.constants[name] = f"static const {kind} {name}[{len(values)}] = {{\n{body}\n}};\n"
        return name

    def make(self, stage: Stage) -> list[str]:
        """Statements that compute row `row` of a stage, before its changes."""
        node = stage.node
        if node is None:
            if self._settings:
                self.use("fill", rows_int8.FILL)
            return [
                f"for (int c = 0; c < {stage.channels - self._settings}; c++) {{",
                "    const uint8_t *in = net->image + ((size_t)c * height + row) * n;",
                "    int8_t *out = line(own, row, c);",
                "    for (int x = 0; x < n; x++)",
                "        out[x] = (int8_t)(in[x] - 128);",
                "}",
                *self._planes(stage),
            ]
        if node.kind == "conv":
            return self._conv(node)
        if node.kind == "window":
            self.use(node.function, rows_int8.window(node.function))
            return super().make(stage)
        if node.kind in ("sum", "pool", "enlarge"):
            return self._sums(node)
        if node.kind in ("extend", "crop"):
            return resizing.copied(self, node, "int8_t")
        if node.kind in ("join", "blend"):
            return self._join(node) if node.kind == "join" else self._blend(node)
        self.use("copy", rows_int8.COPY)
        source = self.lines(node.inputs[0])
        return [
            f"for (int c = 0; c < {node.channels}; c++)",
            f"    copy(line(own, row, c), line({source}, row, c), n);",
        ]

    def _conv(self, node: Node) -> list[str]:
        self.use("start", rows_int8.START)
        self.use("store", rows_int8.ROUND)
        self.use(rows.taps_name(node), rows_int8.taps(node))
        per = self.graph.channels(node.inputs[0]) // node.groups
        area = node.kernel[0] * node.kernel[1]
        levels, bias, factors, shifts = self._levels(node)
        out = self.scale(node.output)
        low = out.zero if node.output in self._exact else -128
        of_group = node.channels // node.groups
        channel = f"o / {of_group} * {per} + i" if node.groups > 1 else "i"
        taps = node.kernel[0]
        return [
            f"for (int o = 0; o < {node.channels}; o++) {{",
            f"    start(net->sum, {bias}[o], n);",
            f"    for (int i = 0; i < {per}; i++) {{",
            f"        const int8_t *taken[{taps}];",
            f"        for (int k = 0; k < {taps}; k++) {{",
            *(f"            {text}" for text in self._row_of(node, channel)),
            "        }",
            f"        {rows.taps_name(node)}(net->sum, taken, {levels} + (o * {per} + i) * {area}, "
            "n);",
            "    }",
            f"    store(line(own, row, o), net->sum, {factors}[o], {shifts}[o], {out.zero}, {low}, "
            "n);",
            "}",
        ]

    def _levels(self, node: Node) -> tuple[str, str, str, str]:
        """C names of a kernel's levels, its biases (with the input's zero point included), its
        factors."""
        kernel, bias = node.weights
        assert kernel is not None
        into, out = self.scale(node.inputs[0]), self.scale(node.output)
        values = np.ascontiguousarray(self._weights[kernel])
        steps = kernel_steps(torch.from_numpy(values)).numpy()
        levels = np.rint(values / steps[:, None, None, None]).astype(np.int64)
        wide = steps * np.float32(into.step)
        start = -into.zero * levels.reshape(len(levels), -1).sum(1)
        if bias is not None:
            start = start + np.rint(self._weights[bias] / wide).astype(np.int64)
        factors = [factor_of(float(step) / out.step) for step in wide]
        name = node.output
        return (
            self.array(f"kernel_{name}", "int8_t", levels.ravel(), 1),
            self.array(f"bias_{name}", "int32_t", start, 4),
            self.array(f"factor_{name}", "int32_t", np.array([f for f, _ in factors]), 4),
            self.array(f"shift_{name}", "uint8_t", np.array([s for _, s in factors]), 1),
        )

    def _row_of(self, node: Node, channel: str) -> list[str]:
        if not node.reach[0] or node.border in ("reflect", "replicate"):
            return super()._row_of(node, channel)
        self.use("fill", rows_int8.FILL)
        self.use("blank", rows_int8.BLANK)
        source, pad = self.lines(node.inputs[0]), node.reach[1]
        zero = self.scale(node.inputs[0]).zero
        return [
            f"const int y = row + (k - {node.kernel[0] // 2}) * {node.dilation};",
            f"taken[k] = y < 0 || y >= height ? blank(net->zeros, {zero}, n, {pad})",
            f"                                : line({source}, y, {channel});",
        ]

    def _sums(self, node: Node) -> list[str]:
        """Statements for sums of channels, means of squares, and interpolation."""
        self.use("start", rows_int8.START)
        self.use("store", rows_int8.ROUND)
        if node.kind == "sum":
            self.use("add", rows_int8.ADD)
            source = self.lines(node.inputs[0])
            parts = self.graph.channels(node.inputs[0]) // node.channels
            before: list[str] = []
            inside = (
                f"for (int i = c * {parts}; i < (c + 1) * {parts}; i++)\n"
                f"            add(net->sum, line({source}, row, i), 1, n);"
            )
        else:
            before, inside = resizing.sums(self, node, "net->sum", ("int8_t", "int32_t"))
            parts = self.graph.factor(node) ** 2 * (1 if node.kind == "pool" else 4)
        into, out = self.scale(node.inputs[0]), self.scale(node.output)
        share = 1 if node.kind == "sum" else parts
        factor, shift = factor_of(into.step / share / out.step)
        return [
            *before,
            f"for (int c = 0; c < {node.channels}; c++) {{",
            f"    start(net->sum, {-into.zero * parts}, n);",
            f"    {inside}",
            f"    store(line(own, row, c), net->sum, {factor}, {shift}, {out.zero}, -128, n);",
            "}",
        ]

    def _use_sums(self) -> None:
        self.use("start", rows_int8.START)
        self.use("store", rows_int8.ROUND)
        self.use("add", rows_int8.ADD)

    def _join(self, node: Node) -> list[str]:
        """Statements that bring several values to one scale."""
        self._use_sums()
        out, first = self.scale(node.output), 0
        text: list[str] = []
        for name in node.inputs:
            into = self.scale(name)
            factor, shift = factor_of(into.step / out.step)
            row = f"line(own, row, {first} + c)"
            text += [
                f"for (int c = 0; c < {self.graph.channels(name)}; c++) {{",
                f"    start(net->sum, {-into.zero}, n);",
                f"    add(net->sum, line({self.lines(name)}, row, c), 1, n);",
                f"    store({row}, net->sum, {factor}, {shift}, {out.zero}, -128, n);",
                "}",
            ]
            first += self.graph.channels(name)
        return text

    def _blend(self, node: Node) -> list[str]:
        """Statements for sums of products, in which an offset counts as 1 over the guide's step."""
        self._use_sums()
        self.use("weigh", resizing.WEIGH_LEVELS)
        maps, guide = (self.scale(name) for name in node.inputs)
        out, count = self.scale(node.output), self.graph.channels(node.inputs[1])
        # All sums of products of at most 2^16, and an offset of at most 2^8, stay below 2^31.
        most = max(2.0**16 * count, 2.0**8 / guide.step)
        shift = max(0, 29 - math.frexp(most)[1])
        one = round(2.0**shift / guide.step)
        factor, by = factor_of(maps.step * guide.step / out.step / 2.0**shift)
        of_maps, of_guide = (self.lines(name) for name in node.inputs)
        return [
            f"for (int c = 0; c < {node.channels}; c++) {{",
            f"    start(net->sum, {-maps.zero * one}, n);",
            f"    add(net->sum, line({of_maps}, row, {count * node.channels} + c), {one}, n);",
            f"    for (int g = 0; g < {count}; g++)",
            f"        weigh(net->sum, line({of_maps}, row, g * {node.channels} + c), {maps.zero},",
            f"              line({of_guide}, row, g), {guide.zero}, {2**shift}, n);",
            f"    store(line(own, row, c), net->sum, {factor}, {by}, {out.zero}, -128, n);",
            "}",
        ]

    _types = "int8_t", "int64_t"

    def unit(self, value: str) -> tuple[float, int]:
        """See `Statements`."""
        return self.scale(value).step, self.scale(value).zero

    def normalised_by(self, node: Node) -> str:
        """See `Statements`."""
        into, out = self.scale(node.inputs[0]), self.scale(node.output)
        weight, bias = self.normed[node.output]
        return f", {into.step!r}, {weight}, {bias}, {node.channels}, {out.step!r}, {out.zero}"

    def _modulate(self, node: Node) -> list[str]:
        self.use("modulate", pixels.MODULATE_LEVELS)
        into, out = self.scale(node.inputs[0]), self.scale(node.output)
        known, count = f"net->{pixels.name_of(node.inputs[1])}", node.channels
        ratio, per = repr(65536.0 * into.step / out.step), repr(65536.0 / out.step)
        return [
            f"for (int c = 0; c < {count}; c++) {{",
            f"    const double a = floor((1.0 + {known}[c]) * {ratio} + 0.5);",
            f"    const double b = {known}[{count} + c] * {per} - a * {into.zero} + "
            f"{(out.zero + 0.5) * 65536!r};",
            "    modulate(line(own, row, c), (int32_t)a, (int64_t)floor(b), n);",
            "}",
        ]

    def change(self, number: int, node: Node) -> list[str]:
        """Statements that change row `row`."""
        if node.kind == "norm":
            return self._norm(number, node)
        if node.kind == "modulate":
            return self._modulate(node)
        each = f"for (int c = 0; c < {node.channels}; c++)"
        if node.kind == "pad":
            self.use("fill", rows_int8.FILL)
            self.use("frame", rows_int8.FRAME)
            zero, (high, wide) = self.scale(node.output).zero, node.outside
            return [each, f"    frame(line(own, row, c), {zero}, row, height, n, {high}, {wide});"]
        if node.kind == "mix":
            return self._mix(node)
        if node.inputs[0] in self._exact:
            return []  # the convolution has already clipped at zero
        self.use("look_up", rows_int8.LOOK_UP)
        return [each, f"    look_up(line(own, row, c), {self._table(node)}, n);"]

    def _norm(self, number: int, node: Node) -> list[str]:
        self.use("norm", rows_int8.norm(max(one.channels for _, one in self.gathers)))
        index = self.gathers.index((number, node))
        weight, bias = (self.constant(name) for name in node.weights)
        self.normed[node.output] = weight, bias
        each = f"for (int c = 0; c < {node.channels}; c++)"
        of = f"net->s[{index}]"
        return [
            f"if (net->pass == {index}) {{",
            f"    {each}",
            f"        collect(&{of}, line(own, row, c), n);",
            "    continue;",
            "}",
            each,
            f"    normalise(line(own, row, c), {of}.a[c], {of}.b[c], n);",
        ]

    def _table(self, node: Node) -> str:
        """The C name of the lookup table of an activation."""
        into, out = self.scale(node.inputs[0]), self.scale(node.output)
        levels = torch.arange(-128, 128, dtype=torch.float32)
        values = ((levels - into.zero) * into.step)[None, None, None]
        alone = Graph((Node("function", ("image",), "output", 1, function=node.function),), 1)
        result = run_graph(alone, {}, values, lambda _, value: value)[0, 0, 0]
        stored = torch.round(result / out.step + out.zero).clamp(-128, 127).numpy()
        return self.array(f"table_{node.output}", "int8_t", stored.astype(np.int64), 1)

    def _mix(self, node: Node) -> list[str]:
        self._use_sums()
        out, scales = self.scale(node.output), [self.scale(name) for name in node.inputs]
        ratios = [
            (np.ones(node.channels) if name is None else self._weights[name].ravel())
            * (scale.step / out.step)
            for name, scale in zip(node.weights, scales, strict=True)
        ]
        # Two products of at most 2^8 times a factor must stay below 2^31.
        shift = min(20, 20 - math.frexp(max(float(np.abs(r).max()) for r in ratios))[1])
        a, b = (np.rint(ratio * 2.0**shift).astype(np.int64) for ratio in ratios)
        zero = -(a * scales[0].zero + b * scales[1].zero)
        names = [
            self.array(f"{letter}_{node.output}", "int32_t", values, 4)
            for letter, values in (("a", a), ("b", b), ("zero", zero))
        ]
        other = f"line({self.lines(node.inputs[1])}, row, c)"
        return [
            f"for (int c = 0; c < {node.channels}; c++) {{",
            f"    start(net->sum, {names[2]}[c], n);",
            f"    add(net->sum, line(own, row, c), {names[0]}[c], n);",
            f"    add(net->sum, {other}, {names[1]}[c], n);",
            f"    store(line(own, row, c), net->sum, 1, {shift}, {out.zero}, -128, n);",
            "}",
        ]
