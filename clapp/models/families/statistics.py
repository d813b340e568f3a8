"""A chain of convolutions whose last features are scaled and shifted by statistics of the picture.

Equalisation, Otsu's threshold and filters that are divided by their maximum need such statistics.
Mean, maximum, deviation and third moment of the first features over all pixels are the input of a
small perceptron, which returns a factor and an offset for each channel (feature-wise modulation,
Perez et al. 2018).
"""

import itertools
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from clapp.config.filternet import Activation
from clapp.models.activations import activation
from clapp.models.families.convolutions import Convolution, total
from clapp.models.families.scaled import SCALED, ScaledConfig
from clapp.models.family import Cost, Family
from clapp.models.graph.builder import Builder
from clapp.models.graph.nodes import IMAGE, Graph, NoStepsError
from clapp.models.phrases import counted, joined

if TYPE_CHECKING:
    from clapp.models.networks.statistics import Statistics


class StatisticsConfig(ScaledConfig):
    """A network with a branch that uses global statistics.

    Attributes:
        width: channels of each convolution.
        depth: number of convolutions; the statistics are taken after the first.
        kernel_size: of each.
        hidden: channels between statistics and factors.
        settings: how it takes what lies behind the three channels of the picture (see
            `clapp.filters.learned.settings`). channel: like the picture; scale: beside the
            statistics, so that they decide factors and offsets too.
    """

    STATISTICS: ClassVar[int] = 4
    """Statistics per channel: mean, maximum, deviation, third moment."""

    width: Annotated[int, Field(ge=1, le=128)] = 4
    depth: Annotated[int, Field(ge=1, le=8)] = 2
    kernel_size: Literal[1, 3, 5] = 3
    hidden: Annotated[int, Field(ge=1, le=128)] = 8
    activation: Activation = "relu"

    @property
    def widest(self) -> int:
        """See `ModelConfig`."""
        return max(self.width, self.input_channels)


def build(config: StatisticsConfig) -> "Statistics":
    """A freshly initialised network."""
    from clapp.models.networks.statistics import Statistics

    return Statistics(config)


def cost(config: StatisticsConfig) -> Cost:
    """Parameters and FLOPs, computed without building the network."""
    width, size = config.width, config.kernel_size
    ends = [config.input_channels - config.scaled_by, *[width] * config.depth]
    local = [Convolution(a, b, size) for a, b in itertools.pairwise(ends)]
    branch = [
        Convolution(config.STATISTICS * width + config.scaled_by, config.hidden, 1, area=1),
        Convolution(config.hidden, 2 * width, 1, area=1),
    ]
    return total([*local, *branch, Convolution(width, config.output_channels, 1)])


def receptive_field(config: StatisticsConfig) -> tuple[int, int]:
    """The receptive field of the convolutions; statistics of the whole picture do not count."""
    window = activation(config.activation).window
    reach = config.depth * (config.kernel_size // 2 + window)
    return reach, reach


def words(config: StatisticsConfig) -> str:
    """Such as "2 convolutions 3x3 of 4 channels, ReLU, scaled by 8 units of global statistics"."""
    size = config.kernel_size
    more = " and its settings" if config.scaled_by else ""
    return joined(
        [
            f"{counted(config.depth, 'convolution')} {size}x{size} of "
            f"{counted(config.width, 'channel')}",
            activation(config.activation).words,
            f"scaled and shifted by statistics of the picture{more} through {config.hidden}",
        ]
    )


def graph(config: StatisticsConfig) -> Graph:
    """The steps of the network."""
    if config.scaled_by:
        raise NoStepsError(SCALED)
    build, width, size = Builder(config.input_channels), config.width, config.kernel_size
    value, change = IMAGE, ""
    for number in range(config.depth):
        value = build.conv(value, width, f"local.{number}", kernel=(size, size))
        value = build.activation(value, config.activation)
        if number == 0:
            change = build.add("moments", value, config.STATISTICS * width)
            change = build.conv(change, config.hidden, "first")
            change = build.conv(build.activation(change, "tanh"), 2 * width, "second")
    build.conv(build.add("modulate", value, width, change), config.output_channels, "head")
    return build.graph()


GLOBAL = Family(
    name="global",
    config=StatisticsConfig,
    build=build,
    cost=cost,
    min_size=lambda _: 1,
    receptive_field=receptive_field,
    is_local=lambda _: False,
    gathered=True,
    words=words,
    graph=graph,
)
