"""Context aggregation: a chain of 3x3 convolutions, dilated by 1, 2, 4, ... and 1, then a 1x1.

Chen, Xu and Koltun 2017, "Fast Image Processing with Fully-Convolutional Networks". Width 24, depth
8 and adaptive normalisation give their CAN24, with two differences: the slope of the leaky ReLU
(0.01, theirs 0.2), and the statistics of the normalisation in training (see
`clapp.models.networks.can`).
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

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
    from torch import nn

    from clapp.models.networks.can import Can


class CanConfig(ScaledConfig):
    """A context aggregation network.

    Attributes:
        width: channels of each 3x3 convolution.
        depth: number of 3x3 convolutions; number n has dilation 2^n, but the last of several has 1.
        norm: adaptive: the sum of x and the normalised x, each times a learned number, which an
            export folds into the convolution before it. none: a bias.
        settings: how it takes what lies behind the three channels of the picture (see
            `clapp.filters.learned.settings`). channel: like the picture; scale: the features of
            each layer are multiplied by 1 + a x + b and shifted by c x + d, with a to d learned
            for each channel (feature-wise modulation, Perez et al. 2018).
    """

    width: Annotated[int, Field(ge=1, le=256)] = 8
    depth: Annotated[int, Field(ge=1, le=10)] = 5
    activation: Activation = "leaky_relu"
    norm: Literal["adaptive", "none"] = "adaptive"
    padding: Literal["zero", "reflect", "replicate"] = "zero"

    @property
    def dilations(self) -> list[int]:
        """The dilation of each 3x3 convolution."""
        return [2**number for number in range(max(self.depth - 1, 1))] + [1] * (self.depth > 1)

    @property
    def widest(self) -> int:
        """See `ModelConfig`."""
        return max(self.width, self.input_channels)


def build(config: CanConfig) -> "Can":
    """A freshly initialised network."""
    from clapp.models.networks.can import Can

    return Can(config)


def exported(net: "nn.Module") -> "nn.Module":
    """The network with normalisations folded into convolutions."""
    from clapp.models.networks.can import Can, folded

    return folded(cast(Can, net))


def cost(config: CanConfig) -> Cost:
    """Parameters and FLOPs as trained; an exported network has a bias instead of normalisations."""
    adaptive = config.norm == "adaptive"
    convolutions = []
    inputs = config.input_channels - config.scaled_by
    for _ in range(config.depth):
        convolutions.append(Convolution(inputs, config.width, bias=not adaptive))
        if config.scaled_by:
            convolutions.append(Convolution(config.scaled_by, 2 * config.width, 1, area=1))
        inputs = config.width
    convolutions.append(Convolution(inputs, config.output_channels, 1))
    return total(convolutions, config.depth * (config.width + 2) * adaptive)


def min_size(config: CanConfig) -> int:
    """One pixel more than the largest reflected border, as reflection needs."""
    return max(config.dilations) + 1 if config.padding == "reflect" else 1


def receptive_field(config: CanConfig) -> tuple[int, int]:
    """The sum of the dilations and of the windows of activations."""
    reach = sum(config.dilations) + config.depth * activation(config.activation).window
    return reach, reach


def words(config: CanConfig) -> str:
    """Such as "context aggregation, 3 channels, 3x3 dilated by 1, 2, 4, 1, ..."."""
    return joined(
        [
            f"context aggregation, {counted(config.width, 'channel')}",
            f"3x3 dilated by {', '.join(map(str, config.dilations))}",
            activation(config.activation).words,
            "adaptive normalisation" if config.norm == "adaptive" else "no normalisation",
            f"{config.padding} border",
            "scaled and shifted by its settings" if config.scaled_by else "",
        ]
    )


def graph(config: CanConfig) -> Graph:
    """The steps of the exported network."""
    if config.scaled_by:
        raise NoStepsError(SCALED)
    build = Builder(config.input_channels)
    value = IMAGE
    for number, dilation in enumerate(config.dilations):
        how: dict[str, Any] = {
            "kernel": (3, 3),
            "dilation": dilation,
            "border": config.padding,
        }
        value = build.conv(value, config.width, f"layers.{number}.conv", **how)
        value = build.activation(value, config.activation)
    build.conv(value, config.output_channels, "head")
    return build.graph()


CAN = Family(
    name="can",
    config=CanConfig,
    build=build,
    cost=cost,
    min_size=min_size,
    receptive_field=receptive_field,
    is_local=lambda _: True,
    words=words,
    exported=exported,
    graph=graph,
)
