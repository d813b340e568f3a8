"""C functions on rows of floats; a source file contains those that its network needs.

Their inner loops run over contiguous floats without branches, so that compilers vectorise them.
"""

from clapp.models.graph.nodes import LEAK, NORM_EPS, ROOT_EPS, Node


def number(value: float) -> str:
    """A float as an exact C literal."""
    text = f"{value:.9g}"
    return f"{text}f" if any(letter in text for letter in ".en") else f"{text}.0f"


FUNCTIONS = {
    "relu": "v > 0.0f ? v : 0.0f",
    "leaky_relu": f"v > 0.0f ? v : {number(LEAK)} * v",
    "squared_relu": "v > 0.0f ? v * v : 0.0f",
    "gelu": "0.5f * v * (1.0f + erff(v * 0.707106781f))",
    "tanh": "tanhf(v)",
    "sigmoid": "1.0f / (1.0f + expf(-v))",
    "swish": "v / (1.0f + expf(-v))",
    "clip": "v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f",
    "abs": "fabsf(v)",
    "square": "v * v",
    "root": f"sqrtf((v > 0.0f ? v : 0.0f) + {number(ROOT_EPS)}) - {number(ROOT_EPS**0.5)}",
}

LINES = """\
/* Rows of one value: `depth` of them are kept, a row of each channel after the other. */
struct lines {
    float *data; /* the first pixel of row 0, channel 0 */
    int depth;
    size_t row_step, channel_step;
};

static float *line(const struct lines *l, int row, int channel)
{
    return l->data + (size_t)(row % l->depth) * l->row_step + (size_t)channel * l->channel_step;
}
"""

FILL = """\
static void fill(float *row, float value, int n)
{
    for (int x = 0; x < n; x++)
        row[x] = value;
}
"""

INSIDE = {
    "reflect": """\
static int reflect(int row, int height)
{
    if (row < 0)
        row = -row;
    return row < height ? row : 2 * (height - 1) - row;
}
""",
    "replicate": """\
static int replicate(int row, int height)
{
    return row < 0 ? 0 : row < height ? row : height - 1;
}
""",
}

EDGES = {
    "reflect": """\
static void edges_reflect(float *row, int n, int pad)
{
    for (int x = 1; x <= pad; x++) {
        row[-x] = row[x];
        row[n - 1 + x] = row[n - 1 - x];
    }
}
""",
    "replicate": """\
static void edges_replicate(float *row, int n, int pad)
{
    for (int x = 1; x <= pad; x++) {
        row[-x] = row[0];
        row[n - 1 + x] = row[n - 1];
    }
}
""",
    "zero": """\
static void edges_zero(float *row, int n, int pad)
{
    fill(row - pad, 0.0f, pad);
    fill(row + n, 0.0f, pad);
}
""",
}

ADD = """\
static void add(float *restrict out, const float *restrict in, int n)
{
    for (int x = 0; x < n; x++)
        out[x] += in[x];
}
"""

MIX = """\
static void mix(float *restrict out, float a, const float *restrict in, float b, int n)
{
    for (int x = 0; x < n; x++)
        out[x] = a * out[x] + b * in[x];
}
"""

FRAME = """\
/* Zeros in the first and last `rows` rows and `columns` columns. */
static void frame(float *out, int row, int height, int n, int rows, int columns)
{
    if (row < rows || row >= height - rows) {
        fill(out, 0.0f, n);
    } else {
        fill(out, 0.0f, columns);
        fill(out + n - columns, 0.0f, columns);
    }
}
"""

LARGEST = """\
/* The largest magnitude of a row, or `most` where that is larger; sixteen pixels at a time. */
static float largest(const float *row, int n, float most)
{
    float lane[16];
    int x = 0;
    for (int i = 0; i < 16; i++)
        lane[i] = most;
    for (; x + 16 <= n; x += 16)
        for (int i = 0; i < 16; i++) {
            const float v = fabsf(row[x + i]);
            lane[i] = v > lane[i] ? v : lane[i];
        }
    for (; x < n; x++) {
        const float v = fabsf(row[x]);
        lane[0] = v > lane[0] ? v : lane[0];
    }
    for (int i = 0; i < 16; i++)
        most = lane[i] > most ? lane[i] : most;
    return most;
}
"""

NORM = f"""\
/* Mean and spread of a whole value, collected row by row. */
struct statistics {{
    double sum, squares;
    float mean, inverse;
}};

static void collect(struct statistics *s, const float *row, int n)
{{
    double sum = 0.0, squares = 0.0;
    for (int x = 0; x < n; x++) {{
        sum += row[x];
        squares += (double)row[x] * row[x];
    }}
    s->sum += sum;
    s->squares += squares;
}}

static void finish(struct statistics *s, double count)
{{
    const double mean = s->sum / count;
    const double variance = s->squares / count - mean * mean;
    s->mean = (float)mean;
    s->inverse = (float)(1.0 / sqrt((variance > 0.0 ? variance : 0.0) + {NORM_EPS!r}));
}}

static void normalise(float *row, const struct statistics *s, float weight, float bias, int n)
{{
    const float factor = weight * s->inverse;
    for (int x = 0; x < n; x++)
        row[x] = (row[x] - s->mean) * factor + bias;
}}
"""


def function(name: str) -> str:
    """A C function that applies an activation to every value of a row."""
    return f"""\
static void each_{name}(float *row, int n)
{{
    for (int x = 0; x < n; x++) {{
        const float v = row[x];
        row[x] = {FUNCTIONS[name]};
    }}
}}
"""


def window(name: str) -> str:
    """A C function for max3 or min3 of three rows."""
    sign = ">" if name == "max3" else "<"
    return f"""\
static void {name}(float *restrict out, const float *a, const float *b, const float *c, int n)
{{
    for (int x = 0; x < n; x++) {{
        float v = a[x - 1];
        for (int k = -1; k <= 1; k++) {{
            v = a[x + k] {sign} v ? a[x + k] : v;
            v = b[x + k] {sign} v ? b[x + k] : v;
            v = c[x + k] {sign} v ? c[x + k] : v;
        }}
        out[x] = v;
    }}
}}
"""


def taps_name(node: Node) -> str:
    """The name of the C function of `taps` for a convolution."""
    dilated = f"_by_{node.dilation}" if node.dilation > 1 and max(node.kernel) > 1 else ""
    return "taps_{}x{}{}".format(*node.kernel, dilated)


def taps(node: Node) -> str:
    """A C function that adds the convolution of one channel to a row, with all taps written out."""
    height, width = node.kernel
    sums = []
    for y in range(height):
        row = []
        for x in range(width):
            offset = (x - width // 2) * node.dilation
            where = f"x {'+' if offset > 0 else '-'} {abs(offset)}" if offset else "x"
            row.append(f"w[{y * width + x}] * r{y}[{where}]")
        sums.append("(" + " + ".join(row) + ")")
    rows = ", ".join(f"*r{y} = rows[{y}]" for y in range(height))
    total = "\n                + ".join(sums)
    return f"""\
static void {taps_name(node)}(float *restrict out, const float *const *rows, const float *w, int n)
{{
    const float {rows};
    for (int x = 0; x < n; x++)
        out[x] += {total};
}}
"""
