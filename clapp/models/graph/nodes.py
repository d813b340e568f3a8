"""A network as a list of steps, each of which makes a named value from others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from clapp.errors import ConfigError

IMAGE, OUTPUT = "image", "output"
# It bounds the slope of the root by 1 / (2 sqrt(eps)) = 500; the offset sqrt(eps) is subtracted.
ROOT_EPS = 1e-6
# It bounds the gain, and so the gradient, for pictures without contrast.
MAX_EPS = 1e-4
LEAK = 0.01
"""Slope of the leaky ReLU below zero."""
NORM_EPS = 1e-5

MOMENT_EPS = 1e-5
"""It is added to variances before their roots are taken as deviations."""

ELEMENTWISE = ("function", "mix", "norm", "maximum", "modulate")
"""Kinds of steps whose output may overwrite their first input."""
FUNCTIONS = (
    *("none", "relu", "leaky_relu", "squared_relu", "gelu", "tanh", "sigmoid", "swish", "abs"),
    *("square", "clip", "max3", "min3"),
)
"""Activations that can be written as steps."""
NEVER_NEGATIVE = ("relu", "squared_relu", "sigmoid", "abs", "square", "clip", "root")


class NoStepsError(ConfigError):
    """A network with a step that only its torch module can say."""


class Size(NamedTuple):
    """The sides of a value: those of the picture, rounded up to a multiple of `grid`, over
    `level`."""

    level: int = 1
    grid: int = 1

    def of(self, side: int) -> int:
        """The side for a picture of this side."""
        return -(-side // self.grid) * self.grid // self.level


PICTURE_SIZE = Size()


@dataclass(frozen=True)
class Node:
    """One step of a network.

    Kinds:
        conv: a convolution; `weights` are its kernel and its bias or None.
        pad: rows and columns of zeros around the value, which replace those that unpadded
            convolutions removed.
        function: `function` of each value; `root` is sqrt(relu(y) + eps) - sqrt(eps).
        window: `function`, max3 or min3, over 3x3 pixels, without pixels beyond the border.
        norm: group normalisation with one group; weights and biases of the channels.
        mix: alfa * first input + beta * second input; None stands for 1.
        sum: the channels of each of `channels` equal groups added up.
        pool: means of squares of pixels, to a lower resolution; what is no multiple of a square is
            completed by repeating the last row and column.
        enlarge: bilinear interpolation to a higher resolution, cropped to its size.
        extend: the last row and column repeated until the sides are multiples of the `grid`.
        crop: the first rows and columns.
        join: the channels of all inputs, one after the other.
        blend: sums of the second input's G channels, weighted by the first input's: with C results,
            result c is the sum over g of channel g C + c times guide g, plus channel G C + c.
        moments: mean, maximum, deviation and third moment of each channel, one pixel; see
            `clapp.models.networks.whole`.
        modulate: the first input x (1 + f) + o, with f and o the two halves of the second input's
            channels, one pixel.
        maximum: division by the picture's largest magnitude + eps.
        peak: the largest value of each channel, one pixel; made for a target, as the next ones are.
        times: the first input times the second, one pixel of one channel.
        over: the first input divided by the second + eps, one pixel of one channel.

    Attributes:
        inputs: names of the values it takes.
        output: name of the value it makes.
        channels: of the output.
        size: the sides of the output; those of one pixel count for nothing.
        weights: names in the state dictionary.
        border: of a conv: none (the result is smaller), zero, reflect or replicate.
        outside: (rows, columns) that a `pad` adds on each side.
        most: larger values have the same effect as this one, so integers need not reach them.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    channels: int
    size: Size = PICTURE_SIZE
    weights: tuple[str | None, ...] = ()
    kernel: tuple[int, int] = (1, 1)
    dilation: int = 1
    groups: int = 1
    border: str = "zero"
    function: str = ""
    outside: tuple[int, int] = (0, 0)
    most: float | None = None

    @property
    def reach(self) -> tuple[int, int]:
        """Pixels (rows, columns) above and left of a pixel that the step reads."""
        if self.kind == "window":
            return 1, 1
        height, width = self.kernel
        return height // 2 * self.dilation, width // 2 * self.dilation


@dataclass(frozen=True)
class Graph:
    """The steps of a network in order; the last one makes `output`."""

    nodes: tuple[Node, ...]
    input_channels: int

    @property
    def output_channels(self) -> int:
        """Channels of the result."""
        return self.nodes[-1].channels

    def channels(self, name: str) -> int:
        """Channels of a value."""
        return self.input_channels if name == IMAGE else self.maker(name).channels

    def size(self, name: str) -> Size:
        """The sides of a value."""
        return Size() if name == IMAGE else self.maker(name).size

    def factor(self, node: Node) -> int:
        """By how much a `pool` or an `enlarge` changes the resolution."""
        before, after = self.size(node.inputs[0]).level, node.size.level
        return after // before if node.kind == "pool" else before // after

    def completes(self, node: Node) -> bool:
        """Whether the sides that a `pool` is given may be no multiples of its squares, or an
        `enlarge` has to crop."""
        return self.size(node.inputs[0]).grid != node.size.grid

    def maker(self, name: str) -> Node:
        """The step that makes a value."""
        return next(node for node in self.nodes if node.output == name)

    def users(self, name: str) -> list[Node]:
        """The steps that take a value."""
        return [node for node in self.nodes if name in node.inputs]

    def multiply_adds(self, node: Node) -> int:
        """The weights of a convolution, each one multiply-add per output pixel; 0 for other
        steps."""
        if node.kind != "conv":
            return 0
        into = self.channels(node.inputs[0]) // node.groups
        return node.channels * into * node.kernel[0] * node.kernel[1]


def unrounded(graph: Graph) -> set[str]:
    """Values of one pixel that follow from statistics of the picture: in integers, too, they are
    computed in floats, once a picture."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.kind == "moments" or all(name in found for name in node.inputs):
            found.add(node.output)
    return found


def never_negative(graph: Graph, name: str, state: Mapping[str, Any] | None) -> bool:
    """Whether no picture in [0, 1] can make a value of `name` negative.

    Args:
        state: weights by name, any arrays; None: the answer holds for all weights.
    """
    if name == IMAGE:
        return True
    node = graph.maker(name)
    if node.kind == "function" and node.function in NEVER_NEGATIVE:
        return True
    if node.kind in ("function", "norm"):
        return node.function == "none" and never_negative(graph, node.inputs[0], state)
    if node.kind == "moments":
        return False
    names = [key for key in node.weights if key is not None]
    if state is None:
        return not names and all(never_negative(graph, value, None) for value in node.inputs)
    held = [state[key] for key in names]
    if any(float(values.min()) < 0 for values in held):
        return False
    return all(never_negative(graph, value, state) for value in node.inputs)
