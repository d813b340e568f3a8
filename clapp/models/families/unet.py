"""U-Net: convolutions at decreasing and then increasing resolutions, with skip connections.

Ronneberger, Fischer and Brox 2015, with one or two convolutions at each resolution, means over 2x2
pixels on the way down and bilinear interpolation on the way up. The picture is padded to a multiple
of 2^depth by repeating its last row and column, and the result is cropped.
"""

from functools import partial
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
    from clapp.models.networks.unet import UNet


class UNetConfig(ModelConfig):
    """A U-Net.

    Attributes:
        width: channels at the full resolution.
        depth: how often the resolution is halved.
        growth: the factor of channels at half the resolution, 1 or 2.
        convolutions: 3x3 convolutions in a row at each resolution, down and up.
    """

    width: Annotated[int, Field(ge=1, le=128)] = 4
    depth: Annotated[int, Field(ge=0, le=6)] = 2
    growth: Annotated[int, Field(ge=1, le=2)] = 2
    convolutions: Annotated[int, Field(ge=1, le=2)] = 1
    activation: Activation = "relu"

    @property
    def widths(self) -> list[int]:
        """Channels at each resolution, full resolution first."""
        return [self.width * self.growth**level for level in range(self.depth + 1)]

    @property
    def widest(self) -> int:
        """See `ModelConfig`."""
        both = self.width * (1 + self.growth * (self.depth > 0))  # before the last stage
        return max(self.input_channels, both)

    def canonical(self) -> "UNetConfig":
        """See `ModelConfig`."""
        return self.model_copy(update={"growth": 1}) if self.depth == 0 else self


def build(config: UNetConfig) -> "UNet":
    """A freshly initialised network."""
    from clapp.models.networks.unet import UNet

    return UNet(config)


def cost(config: UNetConfig) -> Cost:
    """Parameters and FLOPs, computed without building the network."""
    side, widths = padded(2**config.depth), config.widths
    convolutions: list[Convolution] = []

    def stage(inputs: int, level: int) -> None:
        for _ in range(config.convolutions):
            area = (side // 2**level) ** 2
            convolutions.append(Convolution(inputs, widths[level], area=area))
            inputs = widths[level]

    for level in range(config.depth + 1):
        stage(widths[level - 1] if level else config.input_channels, level)
    for level in reversed(range(config.depth)):
        stage(widths[level] + widths[level + 1], level)
    convolutions.append(Convolution(config.width, config.output_channels, 1, area=side**2))
    return total(convolutions)


def receptive_field(config: UNetConfig) -> tuple[int, int]:
    """Recursively: twice the field at half the resolution, two pixels, and the convolutions."""
    stage = config.convolutions * (1 + activation(config.activation).window)
    reach = stage
    for _ in range(config.depth):
        # Bilinear interpolation reads the nearest two half-resolution pixels.
        reach = stage + 2 * reach + 2 + stage
    return reach, reach


def words(config: UNetConfig) -> str:
    """Such as "U-Net of 4, 8, 16 channels, 3x3, ReLU"."""
    channels = ", ".join(map(str, config.widths))
    return joined(
        [
            f"U-Net of {channels} channels" if config.depth else f"{channels} channels",
            "3x3" if config.convolutions == 1 else "3x3 twice",
            activation(config.activation).words,
            f"{counted(config.depth, 'halving')} of the resolution" if config.depth else "",
        ]
    )


def graph(config: UNetConfig) -> Graph:
    """The steps of the network."""
    build, widths = Builder(config.input_channels), config.widths

    def stage(value: str, level: int, place: str) -> str:
        for number in range(config.convolutions):
            where = f"{place}.{level}.convolutions.{number}"
            value = build.conv(value, widths[level], where, kernel=(3, 3))
            value = build.activation(value, config.activation)
        return value

    value = build.through_u(
        build.extend(IMAGE, 2**config.depth),
        config.depth,
        partial(stage, place="down"),
        partial(stage, place="up"),
    )
    build.crop(build.conv(value, config.output_channels, "head"))
    return build.graph()


UNET = Family(
    name="unet",
    config=UNetConfig,
    build=build,
    cost=cost,
    min_size=lambda _: 1,
    receptive_field=receptive_field,
    is_local=lambda _: True,
    words=words,
    alignment=lambda config: 2**config.depth,
    graph=graph,
)
