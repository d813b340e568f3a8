"""Rows of values of another size than their inputs, and rows of several values: C and statements.

Most functions serve floats and levels alike: @VALUE@ is the type of pixels, @SUM@ that of sums.
"""

from typing import TYPE_CHECKING

from clapp.export.c import rows
from clapp.models.graph.nodes import Node

if TYPE_CHECKING:
    from clapp.export.c.statements import Statements

KINDS = ("pool", "enlarge", "extend", "crop", "join", "blend")

_POOL = """\
/* Adds @F@ pixels in a row, of a row that is `wide` pixels wide; the last one counts as often as
   pixels are missing. */
static void pool_@F@(@SUM@ *restrict out, const @VALUE@ *restrict in, int n, int wide)
{
    const int whole = wide / @F@;
    for (int x = 0; x < whole; x++) {
        @SUM@ sum = 0;
        for (int k = 0; k < @F@; k++)
            sum += in[x * @F@ + k];
        out[x] += sum;
    }
    for (int k = whole * @F@; k < n * @F@; k++)
        out[whole] += in[k < wide ? k : wide - 1];
}
"""
_ENLARGE = """\
/* @F@ times the width of p * a + q * b, bilinear; n is the result's width, `wide` that of a and b.
   The weights of two pixels add up to @TWICE@. */
static void enlarge_@F@(@SUM@ *restrict out, const @VALUE@ *a, const @VALUE@ *b, @SUM@ p, @SUM@ q,
                       int n, int wide)
{
    for (int x = 0; x < n; x++) {
        const int place = 2 * x + @F@ + 1;
        const @SUM@ right = (@SUM@)(place % @TWICE@), left = @TWICE@ - right;
        const int k = place / @TWICE@;
        const int l = k > 0 ? k - 1 : 0, r = k < wide ? k : wide - 1;
        out[x] += left * (p * a[l] + q * b[l]) + right * (p * a[r] + q * b[r]);
    }
}
"""
_REPEATED = """\
/* The first n pixels; beyond `wide` pixels the last one. */
static void repeated(@VALUE@ *restrict out, const @VALUE@ *restrict in, int n, int wide)
{
    for (int x = 0; x < n; x++)
        out[x] = in[x < wide ? x : wide - 1];
}
"""
SCALE = """\
static void scale(float *row, float factor, int n)
{
    for (int x = 0; x < n; x++)
        row[x] *= factor;
}
"""
WEIGH = """\
static void weigh(float *restrict out, const float *a, const float *b, int n)
{
    for (int x = 0; x < n; x++)
        out[x] += a[x] * b[x];
}
"""
WEIGH_LEVELS = """\
/* The product of two levels, each minus its zero, and a factor. */
static void weigh(int32_t *restrict sum, const int8_t *a, int zero_a, const int8_t *b, int zero_b,
                  int32_t factor, int n)
{
    for (int x = 0; x < n; x++)
        sum[x] += factor * ((a[x] - zero_a) * (b[x] - zero_b));
}
"""


def function(text: str, factor: int, value: str, total: str) -> str:
    """One of the functions above for a factor and types."""
    names = {"@F@": factor, "@TWICE@": 2 * factor, "@VALUE@": value, "@SUM@": total}
    for name, given in names.items():
        text = text.replace(name, str(given))
    return text


def sums(say: "Statements", node: Node, out: str, types: tuple[str, str]) -> tuple[list[str], str]:
    """Statements before the loop over channels c of a `pool` or an `enlarge`, and one inside.

    The latter adds up pixels in `out`: factor^2 of them in a pool, and with weights of 4 factor^2
    altogether in an enlarge.

    Args:
        types: C types of pixels and of sums.
    """
    factor, source = say.graph.factor(node), say.lines(node.inputs[0])
    size = say.plan.number(say.graph.size(node.inputs[0]))
    say.use("replicate", rows.INSIDE["replicate"])
    if node.kind == "pool":
        say.use(f"pool_{factor}", function(_POOL, factor, *types))
        row = f"replicate({factor} * row + k, net->height[{size}])"
        call = f"pool_{factor}({out}, line({source}, {row}, c), n, net->width[{size}]);"
        return [], f"for (int k = 0; k < {factor}; k++)\n            {call}"
    say.use(f"enlarge_{factor}", function(_ENLARGE, factor, *types))
    before = [
        f"const int place = 2 * row + {factor + 1}, k = place / {2 * factor};",
        f"const int below = place % {2 * factor};",
        f"const int a = replicate(k - 1, net->height[{size}]);",
        f"const int b = replicate(k, net->height[{size}]);",
    ]
    weights = f"({types[1]})({2 * factor} - below), ({types[1]})below"
    lines = f"line({source}, a, c), line({source}, b, c)"
    return before, (
        f"enlarge_{factor}({out}, {lines},\n                {weights}, n, net->width[{size}]);"
    )


def copied(say: "Statements", node: Node, kind: str) -> list[str]:
    """Statements of an `extend` or a `crop`; `kind` is the C type of pixels."""
    size, source = say.plan.number(say.graph.size(node.inputs[0])), say.lines(node.inputs[0])
    say.use("replicate", rows.INSIDE["replicate"])
    say.use("repeated", function(_REPEATED, 1, kind, kind))
    row = f"replicate(row, net->height[{size}])"
    return [
        f"for (int c = 0; c < {node.channels}; c++)",
        f"    repeated(line(own, row, c), line({source}, {row}, c), n, net->width[{size}]);",
    ]


def float_rows(say: "Statements", node: Node) -> list[str]:
    """Statements of a step of `KINDS`, in floats."""
    if node.kind in ("extend", "crop"):
        return copied(say, node, "float")
    each = f"for (int c = 0; c < {node.channels}; c++) {{"
    if node.kind in ("pool", "enlarge"):
        before, inside = sums(say, node, "out", ("float", "float"))
        say.use("scale", SCALE)
        factor = say.graph.factor(node) * (1 if node.kind == "pool" else 2)
        return [
            *before,
            each,
            "    float *out = line(own, row, c);",
            "    fill(out, 0.0f, n);",
            f"    {inside}",
            f"    scale(out, {rows.number(1 / factor**2)}, n);",
            "}",
        ]
    say.use("repeated", function(_REPEATED, 1, "float", "float"))
    if node.kind == "join":
        text, first = [], 0
        for name in node.inputs:
            text += [
                f"for (int c = 0; c < {say.graph.channels(name)}; c++)",
                f"    repeated(line(own, row, {first} + c),",
                f"             line({say.lines(name)}, row, c), n, n);",
            ]
            first += say.graph.channels(name)
        return text
    say.use("weigh", WEIGH)
    maps, guide = (say.lines(name) for name in node.inputs)
    guides = say.graph.channels(node.inputs[1])
    return [
        each,
        "    float *out = line(own, row, c);",
        f"    repeated(out, line({maps}, row, {guides * node.channels} + c), n, n);",
        f"    for (int g = 0; g < {guides}; g++)",
        f"        weigh(out, line({maps}, row, g * {node.channels} + c),",
        f"              line({guide}, row, g), n);",
        "}",
    ]
