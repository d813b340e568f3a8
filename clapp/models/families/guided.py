"""A low-resolution network whose output combines full-resolution channels, pixel by pixel.

As in the bilateral learning of Gharbi et al. 2017 and the guided filter of He et al. 2010: the
output is a sum of guide channels, each multiplied by a smooth map of coefficients, and an offset.
The guide provides the edges, so the maps can be computed on a much smaller picture.
"""

from typing import TYPE_CHECKING, Annotated, Literal

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
    from clapp.models.networks.guided import Guided


class GuidedConfig(ModelConfig):
    """A low-resolution branch with guided upsampling.

    Attributes:
        factor: how much lower the resolution of the branch is; its input are means of factor x
            factor pixels.
        width: channels of the branch.
        depth: number of 3x3 convolutions in the branch.
        guide: channels of the guide, a 1x1 convolution of the picture and an activation; 0: the
            picture itself.
    """

    factor: Literal[2, 4, 8, 16] = 4
    width: Annotated[int, Field(ge=1, le=128)] = 8
    depth: Annotated[int, Field(ge=1, le=8)] = 2
    guide: Annotated[int, Field(ge=0, le=32)] = 0
    activation: Activation = "relu"

    @property
    def guides(self) -> int:
        """Channels of the guide."""
        return self.guide or self.input_channels

    @property
    def widest(self) -> int:
        """See `ModelConfig`."""
        maps = self.output_channels * (self.guides + 1)
        return maps + self.guides + -(-self.width // self.factor**2)


def build(config: GuidedConfig) -> "Guided":
    """A freshly initialised network."""
    from clapp.models.networks.guided import Guided

    return Guided(config)


def cost(config: GuidedConfig) -> Cost:
    """Parameters and FLOPs, computed without building the network."""
    area = (padded(config.factor) // config.factor) ** 2
    convolutions = []
    inputs = config.input_channels
    for _ in range(config.depth):
        convolutions.append(Convolution(inputs, config.width, area=area))
        inputs = config.width
    maps = config.output_channels * (config.guides + 1)
    convolutions.append(Convolution(inputs, maps, 1, area=area))
    if config.guide:
        convolutions.append(
            Convolution(config.input_channels, config.guide, 1, area=padded(config.factor) ** 2)
        )
    return total(convolutions)


def receptive_field(config: GuidedConfig) -> tuple[int, int]:
    """The receptive field of the branch, plus the reach of the bilinear interpolation."""
    window = activation(config.activation).window
    low = config.depth * (1 + window)
    reach = max(config.factor * low + 3 * config.factor // 2 - 1, window * bool(config.guide))
    return reach, reach


def words(config: GuidedConfig) -> str:
    """Such as "8 channels, 3x3 twice at a quarter of the resolution, guided by the picture"."""
    guided = counted(config.guide, "channel") + " of it" if config.guide else "its channels"
    return joined(
        [
            f"coefficients at 1/{config.factor} of the resolution",
            f"{counted(config.depth, '3x3 convolution')} of {counted(config.width, 'channel')}",
            activation(config.activation).words,
            f"applied to the picture by {guided}",
        ]
    )


def graph(config: GuidedConfig) -> Graph:
    """The steps of the network. They compute the guide before the picture is extended: the repeated
    rows and columns of the guide are those of the picture."""
    build, factor, outputs = Builder(config.input_channels), config.factor, config.output_channels
    value = build.pool(IMAGE, factor, factor)
    for number in range(config.depth):
        value = build.conv(value, config.width, f"low.{number}", kernel=(3, 3))
        value = build.activation(value, config.activation)
    value = build.conv(value, outputs * (config.guides + 1), "maps")
    guide = IMAGE
    if config.guide:
        guide = build.conv(IMAGE, config.guide, "guide")
        guide = build.activation(guide, config.activation)
    build.add("blend", build.enlarge(value, factor, grid=1), outputs, guide)
    return build.graph()


GUIDED = Family(
    name="guided",
    config=GuidedConfig,
    build=build,
    cost=cost,
    min_size=lambda _: 1,
    receptive_field=receptive_field,
    is_local=lambda _: True,
    words=words,
    alignment=lambda config: config.factor,
    graph=graph,
)
