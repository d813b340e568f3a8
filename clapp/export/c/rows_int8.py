"""C functions on rows of int8 and sums in int32; a source file contains those that it needs.

A level q stands for scale * (q - zero). Factors between scales are whole numbers and a shift.
"""

from clapp.export.c import rows
from clapp.models.graph.nodes import MAX_EPS, NORM_EPS, Node

LINES = rows.LINES.replace("float", "int8_t")
FILL = rows.FILL.replace("float", "int8_t")
FRAME = """\
/* The level of zero in the first and last `rows` rows and `columns` columns. */
static void frame(int8_t *out, int8_t zero, int row, int height, int n, int rows, int columns)
{
    if (row < rows || row >= height - rows) {
        fill(out, zero, n);
    } else {
        fill(out, zero, columns);
        fill(out + n - columns, zero, columns);
    }
}
"""
EDGES = {
    "reflect": rows.EDGES["reflect"].replace("float", "int8_t"),
    "replicate": rows.EDGES["replicate"].replace("float", "int8_t"),
    "zero": """\
static void edges_zero(int8_t *row, int8_t zero, int n, int pad)
{
    fill(row - pad, zero, pad);
    fill(row + n, zero, pad);
}
""",
}
BLANK = """\
/* A row of zeros above or below a picture. */
static const int8_t *blank(int8_t *row, int8_t zero, int n, int pad)
{
    fill(row - pad, zero, n + 2 * pad);
    return row;
}
"""
LEVEL = """\
/* The level of a setting, given as a fraction of its range. */
static int8_t level(float fraction)
{
    const float v = fraction * 255.0f;
    return (int8_t)((int)((v < 0.0f ? 0.0f : v > 255.0f ? 255.0f : v) + 0.5f) - 128);
}
"""
START = """\
static void start(int32_t *sum, int32_t value, int n)
{
    for (int x = 0; x < n; x++)
        sum[x] = value;
}
"""
ROUND = """\
/* sum * factor / 2^shift + zero, rounded, from `low` to 127. */
static void store(int8_t *restrict out, const int32_t *restrict sum, int32_t factor, int shift,
                  int zero, int low, int n)
{
    const int64_t half = (int64_t)1 << (shift - 1);
    for (int x = 0; x < n; x++) {
        const int32_t q = (int32_t)((sum[x] * (int64_t)factor + half) >> shift) + zero;
        out[x] = (int8_t)(q < low ? low : q > 127 ? 127 : q);
    }
}
"""
ADD = """\
static void add(int32_t *restrict sum, const int8_t *restrict in, int32_t factor, int n)
{
    for (int x = 0; x < n; x++)
        sum[x] += factor * in[x];
}
"""
LOOK_UP = """\
static void look_up(int8_t *row, const int8_t *table, int n)
{
    for (int x = 0; x < n; x++)
        row[x] = table[row[x] + 128];
}
"""
COPY = """\
static void copy(int8_t *restrict out, const int8_t *restrict in, int n)
{
    for (int x = 0; x < n; x++)
        out[x] = in[x];
}
"""
LARGEST = f"""\
/* The largest distance from zero in a row, or `most` where that is larger. */
static int largest(const int8_t *row, int zero, int n, int most)
{{
    for (int x = 0; x < n; x++) {{
        const int v = row[x] < zero ? zero - row[x] : row[x] - zero;
        most = v > most ? v : most;
    }}
    return most;
}}

/* For every level what it becomes when it is divided by the largest magnitude of the picture. */
static void divide(int8_t *table, int peak, float scale, int zero, float to, int to_zero)
{{
    const float factor = scale / (((float)peak * scale + {rows.number(MAX_EPS)}) * to);
    for (int q = -128; q < 128; q++) {{
        const float v = (float)(q - zero) * factor + (float)to_zero;
        const int level = (int)(v < 0.0f ? v - 0.5f : v + 0.5f);
        table[q + 128] = (int8_t)(level < -128 ? -128 : level > 127 ? 127 : level);
    }}
}}
"""


def norm(channels: int) -> str:
    """Group normalisation with one group, of values of at most so many channels."""
    return f"""\
/* Sums of all levels of a value; then level * a + b, by 2^16, for each channel. */
struct statistics {{
    int64_t sum, squares, b[{channels}];
    int32_t a[{channels}];
}};

static void collect(struct statistics *s, const int8_t *row, int n)
{{
    for (int x = 0; x < n; x++) {{
        s->sum += row[x];
        s->squares += row[x] * row[x];
    }}
}}

static void finish(struct statistics *s, double count, double scale, const float *weight,
                   const float *bias, int channels, double to, int zero)
{{
    const double mean = (double)s->sum / count;
    const double variance = (double)s->squares / count - mean * mean;
    const double inverse = scale / sqrt(variance * scale * scale + {NORM_EPS!r});
    for (int c = 0; c < channels; c++) {{
        const double factor = weight[c] * inverse / to;
        s->a[c] = (int32_t)floor(factor * 65536.0 + 0.5);
        s->b[c] = (int64_t)floor((bias[c] / to + zero - mean * factor) * 65536.0 + 32768.5);
    }}
}}

static void normalise(int8_t *row, int32_t a, int64_t b, int n)
{{
    for (int x = 0; x < n; x++) {{
        const int64_t q = ((int64_t)row[x] * a + b) >> 16;
        row[x] = (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
    }}
}}
"""


def taps(node: Node) -> str:
    """A C function that adds the convolution of one channel to a row of sums."""
    text = rows.taps(node).replace("float *restrict out", "int32_t *restrict out")
    return text.replace("float", "int8_t")


def window(name: str) -> str:
    """A C function for max3 or min3 of three rows."""
    return rows.window(name).replace("float", "int8_t")
