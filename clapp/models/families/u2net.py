"""U2-Net: a U-Net whose stages are small U-Nets, each with a residual connection.

Qin et al. 2020, "U^2-Net: Going Deeper with Nested U-Structure for Salient Object Detection", with
means over 2x2 pixels instead of maxima, without normalisation, and with one output instead of the
fused outputs of all stages. The picture is padded to a multiple by repeating its last row and
column, and the result is cropped.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from clapp.config.filternet import Activation
from clapp.config.model import ModelConfig
from clapp.models.activations import activation
from clapp.models.families.convolutions import Convolution, padded, total
from clapp.models.family import Cost, Family
from clapp.models.graph.builder import Builder
from clapp.models.graph.nodes import IMAGE, Graph
from clapp.models.phrases import counted, joined

if TYPE_CHECKING:
    from clapp.models.networks.u2net import U2Net

Interval = tuple[int, int]
"""First and last pixel along an axis."""


class U2NetConfig(ModelConfig):
    """A U2-Net.

    Attributes:
        width: channels between stages.
        inner: channels inside of a stage.
        depth: how often the resolution is halved between stages.
        height: how often it is halved inside of the first and the last stage; in each further stage
            on the way down once less, but at least once.
    """

    width: Annotated[int, Field(ge=1, le=128)] = 4
    inner: Annotated[int, Field(ge=1, le=128)] = 2
    depth: Annotated[int, Field(ge=0, le=4)] = 1
    height: Annotated[int, Field(ge=1, le=5)] = 2
    activation: Activation = "relu"

    @property
    def heights(self) -> list[int]:
        """How often the stages at each resolution halve it inside, full resolution first."""
        return [max(self.height - level, 1) for level in range(self.depth + 1)]

    @property
    def multiple(self) -> int:
        """The sides of a picture are padded to multiples of this."""
        return 1 << max(level + height for level, height in enumerate(self.heights))

    @property
    def widest(self) -> int:
        """See `ModelConfig`."""
        both = 2 * self.width if self.depth else self.input_channels
        return max(self.input_channels, both + self.width, 2 * self.width + 3 * self.inner)

    def inputs(self, level: int, *, down: bool) -> int:
        """Channels that a stage is given."""
        if not down:
            return 2 * self.width
        return self.width if level else self.input_channels


def shapes(config: U2NetConfig, inputs: int, height: int) -> Iterator[tuple[str, int, int, int]]:
    """The convolutions of a stage: name, inputs, outputs, and how often the resolution is halved
    there."""
    width, inner = config.width, config.inner
    yield "first", inputs, width, 0
    for level in range(height + 1):
        yield f"down.{level}", inner if level else width, inner, level
    yield "bottom", inner, inner, height  # dilated by 2
    for level in range(height + 1):
        yield f"up.{level}", 2 * inner, inner if level else width, level


def build(config: U2NetConfig) -> "U2Net":
    """A freshly initialised network."""
    from clapp.models.networks.u2net import U2Net

    return U2Net(config)


def cost(config: U2NetConfig) -> Cost:
    """Parameters and FLOPs, computed without building the network."""
    side = padded(config.multiple)
    convolutions = [Convolution(config.width, config.output_channels, 1, area=side**2)]
    for level, height in enumerate(config.heights):
        for down in (True, False)[: 1 + (level < config.depth)]:
            for _, inputs, outputs, inside in shapes(
                config, config.inputs(level, down=down), height
            ):
                area = (side // 2 ** (level + inside)) ** 2
                convolutions.append(Convolution(inputs, outputs, area=area))
    return total(convolutions)


def receptive_field(config: U2NetConfig) -> tuple[int, int]:
    """The largest reach of an output pixel, whose place among the multiples matters."""
    window = activation(config.activation).window

    def wider(pixels: Interval, reach: int = 1) -> Interval:
        return pixels[0] - reach - window, pixels[1] + reach + window

    def stage(pixels: Interval, height: int, level: int = 0) -> Interval:
        """What the second half of a stage needs of the input of its level; see `_halved`."""
        pixels = wider(pixels)  # up
        if level == height:
            pixels = wider(pixels, 2)
        else:
            pixels = _halved(pixels, lambda half: stage(half, height, level + 1))
        return wider(pixels)  # down

    def outer(pixels: Interval, level: int) -> Interval:
        height = config.heights[level]
        if level < config.depth:
            pixels = wider(stage(pixels, height))
            pixels = _halved(pixels, lambda half: outer(half, level + 1))
        return wider(stage(pixels, height))

    reach = 0
    for place in range(config.multiple):
        first, last = outer((place, place), 0)
        reach = max(reach, place - first, last - place)
    return reach, reach


def _halved(pixels: Interval, inside: Callable[[Interval], Interval]) -> Interval:
    """What pixels need that are made of the same pixels and of an enlarged half resolution."""
    first, last = pixels
    low, high = inside(((2 * first + 3) // 4 - 1, (2 * last + 3) // 4))
    return min(first, 2 * low), max(last, 2 * high + 1)


def words(config: U2NetConfig) -> str:
    """Such as "U2-Net of 4 channels, 2 inside, 2 then 1 halvings inside, 3x3, ReLU"."""
    inside = " then ".join(map(str, config.heights))
    return joined(
        [
            f"U2-Net of {counted(config.width, 'channel')}, {config.inner} inside of its stages",
            f"{counted(config.depth, 'halving')} of the resolution between them"
            if config.depth
            else "one stage",
            f"{inside} inside",
            f"3x3, {activation(config.activation).words}",
        ]
    )


def graph(config: U2NetConfig) -> Graph:
    """The steps of the network."""
    grid, build = config.multiple, Builder(config.input_channels)

    def conv(value: str, channels: int, place: str, dilation: int = 1) -> str:
        value = build.conv(value, channels, place, kernel=(3, 3), dilation=dilation)
        return build.activation(value, config.activation)

    def stage(value: str, height: int, place: str) -> str:
        first = value = conv(value, config.width, f"{place}.first")
        kept = []
        for level in range(height + 1):
            value = build.pool(value, 2, grid) if level else value
            value = conv(value, config.inner, f"{place}.down.{level}")
            kept.append(value)
        value = conv(value, config.inner, f"{place}.bottom", dilation=2)
        for level in reversed(range(height + 1)):
            value = value if level == height else build.enlarge(value, 2, grid)
            channels = config.inner if level else config.width
            value = conv(build.join(kept[level], value), channels, f"{place}.up.{level}")
        return build.add("mix", value, config.width, first, weights=(None, None))

    heights = config.heights
    value = build.through_u(
        build.extend(IMAGE, grid),
        config.depth,
        lambda value, level: stage(value, heights[level], f"down.{level}"),
        lambda value, level: stage(value, heights[level], f"up.{level}"),
    )
    build.crop(build.conv(value, config.output_channels, "head"))
    return build.graph()


U2NET = Family(
    name="u2net",
    config=U2NetConfig,
    build=build,
    cost=cost,
    min_size=lambda _: 1,
    receptive_field=receptive_field,
    is_local=lambda _: True,
    words=words,
    alignment=lambda config: config.multiple,
    graph=graph,
)
