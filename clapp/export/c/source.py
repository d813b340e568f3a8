"""The C source of a network in floats."""

from collections.abc import Sequence

from clapp.export.c import pixels, resizing, rows
from clapp.export.c.header import (
    Code,
    arguments,
    header_text,
    identifier,
    wide,
    workspace,
    zeros_row,
)
from clapp.export.c.stages import Plan, Stage, plan_stages
from clapp.export.c.statements import Statements, Weights
from clapp.filters.learned.settings import Setting
from clapp.models.graph.nodes import MAX_EPS, Graph, Node


def write_c(
    graph: Graph,
    weights: Weights,
    name: str,
    title: str,
    least: int,
    *,
    uint8: bool,
    settings: Sequence[Setting] = (),
) -> Code:
    """The network in floats.

    Args:
        name: the prefix of all C names; see `identifier`.
        title: the first line of the header.
        least: the smallest side of a picture that the network accepts.
        uint8: pictures are levels from 0 to 255, otherwise floats in [0, 1].
        settings: channels behind the picture that are arguments, in their own units.
    """
    plan = plan_stages(graph, copied=uint8 or bool(settings))
    space = workspace(plan)
    header = header_text(
        graph,
        name,
        title,
        least,
        space,
        uint8=uint8,
        math="it needs the C library's <math.h>",
        settings=settings,
    )
    emitter = Emitter(graph, weights, plan, name, uint8, settings)
    source = emitter.text()
    sizes, outputs = space.times(4), graph.output_channels
    code = Code(name, header, source, plan, emitter.weight_bytes, sizes, outputs)
    return code._replace(settings=tuple(settings))


class Emitter:
    """Writes the source file of a plan; subclasses override the methods that differ in int8."""

    kind, file, lines_text = "float", "model", rows.LINES + "\n" + rows.FILL
    setting_kind = "float"

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        plan: Plan,
        name: str,
        uint8: bool,
        settings: Sequence[Setting] = (),
    ) -> None:
        self._graph, self._plan, self._name, self._uint8 = graph, plan, name, uint8
        self._settings = settings
        self._say = Statements(graph, weights, plan, uint8, len(settings))

    @property
    def weight_bytes(self) -> int:
        """Bytes of the constants."""
        return self._say.weight_bytes

    def text(self) -> str:
        """The text of the source file."""
        stages = [self._stage(n, stage) for n, stage in enumerate(self._plan.stages)]
        run = self._run()
        parts = [
            self._includes(),
            *self._say.constants.values(),
            self.lines_text,
            *self._say.helpers.values(),
            self._state(),
            *stages,
            run,
        ]
        return "\n".join(parts)

    def _includes(self) -> str:
        return f'#include "{self.file}.h"\n\n#include <math.h>\n'

    def _extra_state(self) -> str:
        gather = self._gathered_state()
        zeros = "    const float *zeros;\n" if zeros_row(self._plan)[0] else ""
        peak = "    float peak;\n" if self._plan.maximum else ""
        return f"{zeros}{gather}{peak}"

    def _gathered_state(self) -> str:
        gathers = self._say.gathers
        text = "    int pass;\n" if gathers else ""
        kinds = {node.kind for _, node in gathers}
        if "norm" in kinds:
            text += f"    struct statistics s[{len(gathers)}];\n"
        if "moments" in kinds:
            text += f"    struct moments m[{len(gathers)}];\n"
        made = [node for _, node in gathers if node.kind == "moments"]
        for node in (*made, *self._plan.pixels):
            text += f"    float {pixels.name_of(node.output)}[{node.channels}];\n"
        return text

    def _state(self) -> str:
        kind = "uint8_t" if self._uint8 else "float"
        image = f"    const {kind} *image;\n" if self._plan.sources["image"] == 0 else ""
        if self._settings:
            image += f"    {self.setting_kind} setting[{len(self._settings)}];\n"
        stages, sizes = len(self._plan.stages), len(self._plan.sizes)
        return (
            "struct net {\n"
            f"{image}"
            f"    int height[{sizes}], width[{sizes}]; /* of the picture, and of other sizes */\n"
            f"    struct lines l[{stages + 1}]; /* the picture, then each stage's rows */\n"
            f"    int made[{stages}]; /* rows so far */\n"
            f"{self._extra_state()}}};\n"
        )

    def _stage(self, number: int, stage: Stage) -> str:
        size = self._plan.number(stage.size)
        body = [f"const int height = net->height[{size}], n = net->width[{size}];"]
        body += ["(void)height;"] if not _uses_height(stage) else []
        body += self._ask(stage)
        body += self._say.make(stage)
        for change in stage.changes:
            body += self._say.change(number, change)
        body += self._say.collect(number, stage)
        each = f"for (int c = 0; c < {stage.channels}; c++)"
        if stage.pad:
            body += [each, f"    {self._edges(stage)}"]
        if self._plan.maximum is not None and number == len(self._plan.stages) - 1:
            body += [each, f"    {self._peak(stage)}"]
        inner = "\n".join(f"        {text}" for text in body)
        what = "the picture" if stage.node is None else describe_stage(stage)
        return (
            f"/* {what} */\n"
            f"static void make_{number}(struct net *net, int last)\n{{\n"
            f"    const struct lines *own = &net->l[{number + 1}];\n"
            f"    for (; net->made[{number}] <= last; net->made[{number}]++) {{\n"
            f"        const int row = net->made[{number}];\n{inner}\n    }}\n}}\n"
        )

    def _edges(self, stage: Stage) -> str:
        self._say.use(f"edges_{stage.border}", rows.EDGES[stage.border])
        return f"edges_{stage.border}(line(own, row, c), n, {stage.pad});"

    def _peak(self, _: Stage) -> str:
        self._say.use("largest", rows.LARGEST)
        self._say.use("scale", resizing.SCALE)
        return "net->peak = largest(line(own, row, c), n, net->peak);"

    def _ask(self, stage: Stage) -> list[str]:
        """Calls that compute the rows that this row needs."""
        calls = []
        for position, value in enumerate(dict.fromkeys(self._plan.inputs(stage))):
            source = self._plan.sources[value]
            if source < 0 or stage.node is None:
                continue
            until = "row"
            if position == 0:
                size = self._plan.number(self._graph.size(value))
                until = _last_row(stage.node, f"net->height[{size}]", self._graph)
            calls.append(f"make_{source}(net, {until});")
        return calls

    def _run(self) -> str:
        stages, name = self._plan.stages, self._name
        kind = "uint8_t" if self._uint8 else "float"
        last = len(stages) - 1
        setup = [*self._begin(), *map(self._set, range(len(self._settings)))]
        if self._plan.sources["image"] == 0:
            setup.append("net.image = image;")
        else:  # only read
            setup.append("net.l[0] = (struct lines){(float *)image, height, width, area};")
        for number, stage in enumerate(stages[:-1]):
            step = f"width_{self._plan.number(stage.size)}"
            step = f"{step} + {2 * stage.pad}" if stage.pad else step
            setup += [
                f"net.l[{number + 1}] = (struct lines){{at + {stage.pad}, {stage.depth}, "
                f"{stage.channels} * ({step}), {step}}};",
                f"at += {stage.depth * stage.channels} * ({step});",
            ]
        setup.append(f"net.l[{last + 1}] = (struct lines){{output, height, width, area}};")
        size, pad = zeros_row(self._plan)
        if size is not None:
            setup += self._zeros(wide("(size_t)width", size), pad)
        inner = "\n".join(f"    {text}" for text in [*setup, *self._passes(last)])
        return (
            f"int {name}_run(const {kind} *image, int height, int width, "
            f"{arguments(self._settings)}{self.kind} *output, "
            f"{'float' if self.kind == 'float' else 'int32_t'} *workspace)\n{{\n"
            f"    struct net net = {{0}};\n"
            f"    const size_t area = (size_t)height * width;\n"
            f"{self._widths()}"
            f"    {self._at()}\n"
            f"    if (height < {name.upper()}_MIN_SIZE || width < {name.upper()}_MIN_SIZE)\n"
            f"        return -1;\n"
            f"    (void)area;\n    (void)at;\n"
            f"{self._sizes()}"
            f"{inner}\n    return 0;\n}}\n"
        )

    def _widths(self) -> str:
        return "".join(
            f"    const size_t width_{number} = {wide('(size_t)width', size)};\n"
            for number, size in enumerate(self._plan.sizes)
        )

    def _sizes(self) -> str:
        return "".join(
            f"    (void)width_{number};\n"
            f"    net.height[{number}] = {wide('height', size)};\n"
            f"    net.width[{number}] = {wide('width', size)};\n"
            for number, size in enumerate(self._plan.sizes)
        )

    def _begin(self) -> list[str]:
        return []

    def _set(self, number: int) -> str:
        """C that puts a setting where the picture's rows are made."""
        return f"net.setting[{number}] = {self._fraction(number)};"

    def _fraction(self, number: int) -> str:
        one = self._settings[number]
        low, factor = rows.number(one.low), rows.number(1 / (one.high - one.low))
        return f"({identifier(one.name)} - {low}) * {factor}"

    def _at(self) -> str:
        return "float *at = workspace;"

    def _zeros(self, width: str, pad: int) -> list[str]:
        return [f"fill(at, 0.0f, (int)({width}) + {2 * pad});", f"net.zeros = at + {pad};"]

    def _divide(self) -> list[str]:
        return [
            f"for (size_t i = 0; i < {self._graph.output_channels} * area; i += width)",
            f"    scale(output + i, 1.0f / (net.peak + {rows.number(MAX_EPS)}), width);",
        ]

    def _passes(self, last: int) -> list[str]:
        text = []
        for index, (number, _) in enumerate(self._say.gathers):
            size = self._plan.number(self._plan.stages[number].size)
            text += [
                f"net.pass = {index};",
                f"make_{number}(&net, net.height[{size}] - 1);",
                *self._say.finish(index),
                f"for (int i = 0; i <= {last}; i++)",
                "    net.made[i] = 0;",
            ]
        if self._say.gathers:
            text.append(f"net.pass = {len(self._say.gathers)};")
        text.append(f"make_{last}(&net, height - 1);")
        if self._plan.maximum is not None:
            text += self._divide()
        return text


def describe_stage(stage: Stage) -> str:
    """A C comment that describes a stage."""
    node = stage.node
    assert node is not None
    words = []
    if node.kind == "conv":
        depthwise = "depthwise " if node.groups > 1 else ""
        words.append(
            "{}{}x{} convolution to {} channel(s)".format(depthwise, *node.kernel, node.channels)
        )
    elif node not in stage.changes:
        words.append(node.function or node.kind)
    words += [change.function or change.kind for change in stage.changes]
    return ", ".join(words)


def _uses_height(stage: Stage) -> bool:
    node = stage.node
    padded = any(change.kind == "pad" for change in stage.changes)
    if node is None or padded or node.kind == "window":
        return True
    return node.kind == "conv" and node.reach[0] > 0


def _last_row(node: Node, height: str, graph: Graph) -> str:
    """A C expression: the last row of the first input that a row needs."""
    reach = node.reach[0]
    if node.kind in ("conv", "window") and reach:
        return f"row + {reach} < {height} ? row + {reach} : {height} - 1"
    last = "row"
    if node.kind == "pool":
        factor = graph.factor(node)
        last = f"{factor} * row + {factor - 1}"
    elif node.kind == "enlarge":
        factor = graph.factor(node)
        last = f"(2 * row + {factor + 1}) / {2 * factor}"
    elif node.kind != "extend":
        return last
    return f"{last} < {height} ? {last} : {height} - 1"
