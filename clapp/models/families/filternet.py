"""FilterNet: a 1x1 convolution, a few blocks, a 1x1 convolution or a sum.

It is the family of the packaged configuration, whose keys `default.yaml` explains.
"""

from typing import TYPE_CHECKING

from clapp.config.filternet import BlockShape, FilterNetConfig
from clapp.models.activations import ACTIVATIONS
from clapp.models.changes import changes
from clapp.models.family import SIDE, Cost, Family, State
from clapp.models.graph.filternet import filternet_graph
from clapp.models.phrases import counted, joined, one_each

if TYPE_CHECKING:
    from clapp.models.networks.filternet import FilterNet

_BORDERS = {
    "zero_after": "zeros around the result",
    "zero": "border of zeros",
    "reflect": "reflected border",
    "replicate": "repeated border",
}


def build(config: FilterNetConfig) -> "FilterNet":
    """A freshly initialised FilterNet."""
    from clapp.models.networks.filternet import FilterNet

    return FilterNet(config)


def inherited(
    parent: FilterNetConfig, weights: State, child: FilterNetConfig, fresh: State
) -> State:
    """See `clapp.models.inheritance`."""
    from clapp.models.inheritance.filternet import inherited

    return inherited(parent, weights, child, fresh)


def cost(config: FilterNetConfig) -> Cost:
    """Parameters and FLOPs, computed without building the network."""
    stem, last = config.stem_channels, config.blocks[-1].width
    outputs, bias = config.output_channels, config.bias
    repeats = config.num_layers if config.shared_weights else 1
    side = SIDE // config.downsample

    first = config.input_channels * stem if config.stem != 0 else 0  # weights of the 1x1
    end = last * outputs if config.head == "conv" else 0
    params = first + end
    if bias:
        params += stem * (config.stem != 0) + outputs * (config.head == "conv")
    work = (first + end) * side**2
    for block in config.own_blocks:
        weights = _block_weights(block)
        params += weights + _block_others(block, bias)
        # With `zero_after`, convolutions run on the unpadded picture, which has fewer pixels.
        less = [2 * pixels if config.padding == "zero_after" else 0 for pixels in block.border]
        work += weights * (side - less[0]) * (side - less[1]) * repeats
    return Cost(params, 2 * work)


def _block_weights(block: BlockShape) -> int:
    """Weights of the convolutions of a block; each is one multiply-add per output pixel."""
    area, channels, width = block.kernel[0] * block.kernel[1], block.channels, block.width
    if block.separable:
        return channels * (area + width)
    return width * area if block.depthwise else channels * width * area


def _block_others(block: BlockShape, bias: bool) -> int:
    """Parameters of biases, normalisation and the scales of ReZero and ReSkip."""
    normed = block.channels if block.norm_first else block.width
    norm = 2 * normed if block.norm == "group" else 0
    scales = block.rezero + block.reskip if block.channels == block.width else 0
    return block.width * bias + norm + block.width * scales


def receptive_field(config: FilterNetConfig) -> tuple[int, int]:
    """How many pixels up and down, and left and right, an output pixel depends on.

    Statistics of the whole picture (a norm, the output's maximum) do not count: see `is_local`.
    """
    reach = [0, 0]
    for block in config.blocks:
        for axis in (0, 1):
            reach[axis] += block.border[axis] + ACTIVATIONS.find(block.activation).window
    if config.downsample == 2:
        # A half-resolution pixel covers two; bilinear interpolation reads one more of them.
        reach = [2 * (pixels + 1) + 1 for pixels in reach]
    return reach[0], reach[1]


def is_local(config: FilterNetConfig) -> bool:
    """Whether an output pixel depends only on its receptive field."""
    return config.output_norm == "none" and all(b.norm == "none" for b in config.blocks)


def words(config: FilterNetConfig) -> str:
    """Such as "1 block of 4 channels, 5x5, square, no normalisation, reflected border".

    Values that differ between blocks are listed: "2 blocks of 2 then 1 channels, 1x5 then 5x1,
    ...".
    """
    model = config.canonical()  # settings without effect are left out
    blocks = model.blocks
    return joined(
        [
            _blocks(model),
            one_each(_convolution(block) for block in blocks),
            one_each(ACTIVATIONS.find(block.activation).words for block in blocks),
            one_each(_norm(block) for block in blocks),
            one_each(_skip(block) for block in blocks),
            _BORDERS[model.padding] if any(block.kernel != (1, 1) for block in blocks) else "",
            "" if model.bias else "no biases",
            "half resolution" if model.downsample == 2 else "",
            _end(model),
        ]
    )


def _blocks(model: FilterNetConfig) -> str:
    if isinstance(model.capacity, list):
        channels = f"{' then '.join(map(str, model.capacity))} channels"
    else:
        channels = counted(model.capacity, "channel")
    if model.shared_weights:
        blocks = f"1 block of {channels} applied {model.num_layers} times"
    else:
        blocks = f"{counted(model.num_layers, 'block')} of {channels}"
    if model.stem == 0:
        return f"{blocks} without a stem"
    if model.stem_channels == model.blocks[0].width:
        return blocks
    return f"{blocks} after a stem of {model.stem_channels}"


def _convolution(block: BlockShape) -> str:
    kind = "separable " if block.separable else "depthwise " if block.depthwise else ""
    dilated = f" dilated by {block.dilation}" if block.dilation > 1 else ""
    return "{}{}x{}{}".format(kind, *block.kernel, dilated)


def _norm(block: BlockShape) -> str:
    if block.norm == "none":
        return "no normalisation"
    return f"normalised {'before' if block.norm_first else 'after'} the convolution"


def _skip(block: BlockShape) -> str:
    scaled = [name for name, on in (("ReZero", block.rezero), ("ReSkip", block.reskip)) if on]
    return " and ".join(scaled)  # blocks have a skip only with one of them


def _end(model: FilterNetConfig) -> str:
    last = {
        "none": "",
        "relu": "ReLU at the end",
        "sqrt": "square root at the end",
        "sigmoid": "sigmoid at the end",
        "clip": "clip at the end",
    }
    scaled = "divided by its maximum" if model.output_norm == "max" else ""
    summed = "channels summed" if model.head == "sum" else ""
    return joined([summed, last[model.output_activation], scaled])


FILTERNET = Family(
    name="filternet",
    config=FilterNetConfig,
    build=build,
    cost=cost,
    min_size=lambda config: config.min_size,
    receptive_field=receptive_field,
    is_local=is_local,
    words=words,
    changes=changes,
    inherited=inherited,
    alignment=lambda config: config.downsample,
    gathered=True,
    graph=filternet_graph,
)
