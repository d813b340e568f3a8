"""Values of one pixel: statistics of a whole value, what follows from them, and their use, as C.

They are computed in floats, once a picture, in networks of integers too.
"""

from typing import TYPE_CHECKING

from clapp.export.c import rows
from clapp.models.graph.nodes import MOMENT_EPS, Node

if TYPE_CHECKING:
    from clapp.export.c.statements import Statements

DENSE = """\
/* A convolution of one pixel. */
static void dense(float *out, const float *in, const float *w, const float *bias, int outputs,
                  int inputs)
{
    for (int o = 0; o < outputs; o++) {
        float sum = bias[o];
        for (int i = 0; i < inputs; i++)
            sum += w[o * inputs + i] * in[i];
        out[o] = sum;
    }
}
"""
MODULATE = """\
static void modulate(float *row, float factor, float offset, int n)
{
    for (int x = 0; x < n; x++)
        row[x] = row[x] * factor + offset;
}
"""
MODULATE_LEVELS = """\
/* level * a + b, by 2^16. */
static void modulate(int8_t *row, int32_t a, int64_t b, int n)
{
    for (int x = 0; x < n; x++) {
        const int64_t q = ((int64_t)row[x] * a + b) >> 16;
        row[x] = (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
    }
}
"""


def moments(channels: int, value: str, total: str) -> str:
    """C functions that collect the moments of values of at most so many channels.

    Args:
        value, total: C types of pixels and of their sums.
    """
    return f"""\
/* Sums of powers of a whole value, and its maximum, collected row by row. */
struct moments {{
    {total} sums[{channels}], squares[{channels}], cubes[{channels}];
    {value} most[{channels}];
}};

static void collect_moments(struct moments *m, int c, const {value} *row, int n, int first)
{{
    {value} most = first ? row[0] : m->most[c];
    {total} sum = 0, squares = 0, cubes = 0;
    for (int x = 0; x < n; x++) {{
        const {total} v = row[x];
        most = row[x] > most ? row[x] : most;
        sum += v;
        squares += v * v;
        cubes += v * v * v;
    }}
    m->most[c] = most;
    m->sums[c] += sum;
    m->squares[c] += squares;
    m->cubes[c] += cubes;
}}

/* Mean, maximum, deviation and tanh of the third moment of (pixel - zero) * step. */
static void finish_moments(const struct moments *m, double count, float step, int zero,
                           int channels, float *out)
{{
    for (int c = 0; c < channels; c++) {{
        const double mean = (double)m->sums[c] / count, square = (double)m->squares[c] / count;
        const double variance = square - mean * mean;
        const double third = (double)m->cubes[c] / count - 3.0 * mean * square
                             + 2.0 * mean * mean * mean;
        const double size = sqrt((variance > 0.0 ? variance : 0.0) * step * step + {MOMENT_EPS!r});
        const double ratio = step / size;
        out[c] = (float)((mean - zero) * step);
        out[channels + c] = (float)(m->most[c] - zero) * step;
        out[2 * channels + c] = (float)size;
        out[3 * channels + c] = (float)tanh(third * ratio * ratio * ratio);
    }}
}}
"""


def name_of(value: str) -> str:
    """The C name of a value of one pixel, an array in the state."""
    return f"v_{value}"


def computed(say: "Statements", node: Node) -> list[str]:
    """Statements of a step that turns values of one pixel into another."""
    source, out = (f"net.{name_of(name)}" for name in (node.inputs[0], node.output))
    inputs = say.graph.channels(node.inputs[0])
    if node.kind == "conv":
        say.use("dense", DENSE)
        kernel, bias = (say.constant(name) for name in node.weights)
        return [f"dense({out}, {source}, {kernel}, {bias}, {node.channels}, {inputs});"]
    assert node.kind == "function"
    say.use(node.function, rows.function(node.function))
    return [
        f"for (int i = 0; i < {inputs}; i++)",
        f"    {out}[i] = {source}[i];",
        f"each_{node.function}({out}, {inputs});",
    ]
