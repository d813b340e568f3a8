"""The stem and the head of a FilterNet."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clapp.config import BlockShape, FilterNetConfig
from clapp.models.activations import activation
from clapp.models.family import State
from clapp.models.inheritance.kernels import Channels, copy, copy_channels, kept, mapped, norms, use
from clapp.models.networks.initialise import before_sigmoid

_FIRST = "main.0.conv.0.weight"


def stem(
    parent: FilterNetConfig, weights: State, child: FilterNetConfig, state: dict[str, Tensor]
) -> Channels:
    """Write the stem of the child; returns which channels it has."""
    if child.stem == 0:
        return (
            list(range(child.input_channels)) if parent.stem == 0 else [None] * child.input_channels
        )
    if parent.stem == 0:
        return [None] * child.stem_channels
    importance = norms(weights["prep.weight"]) * use(parent.own_blocks, weights, 0)
    out = kept(importance, child.stem_channels)
    colours: Channels = list(range(child.input_channels))
    copy(state, "prep.weight", mapped(weights["prep.weight"], state["prep.weight"], out, colours))
    copy_channels(state, weights, "prep.bias", "prep.bias", out)
    return out


def _begins_with_full_kernels(config: FilterNetConfig) -> bool:
    """Whether nothing lies between the stem and a convolution that mixes all its channels."""
    first = config.blocks[0]
    apart = first.separable or (first.depthwise and first.channels > 1)
    between = first.has_skip or (first.norm != "none" and first.norm_first)
    return not (apart or between or config.shared_weights)


def without_stem(parent: FilterNetConfig, weights: State) -> tuple[FilterNetConfig, State]:
    """The same network with its stem multiplied into the first convolution, where that is possible.

    At a border of zeros, a bias of the stem has a different effect.
    """
    if parent.stem == 0 or not _begins_with_full_kernels(parent):
        return parent, weights
    state = {name: value for name, value in weights.items() if not name.startswith("prep.")}
    stem, kernels = weights["prep.weight"][..., 0, 0], weights[_FIRST]
    state[_FIRST] = torch.einsum("oshw,sc->ochw", kernels, stem)
    if "prep.bias" in weights:
        offset = torch.einsum("oshw,s->o", kernels, weights["prep.bias"])
        state["main.0.conv.0.bias"] = weights["main.0.conv.0.bias"] + offset
    return _with_first(parent, stem=0), state


def with_stem(
    parent: FilterNetConfig, weights: State, channels: int
) -> tuple[FilterNetConfig, State]:
    """A network without a stem with its first kernels factored into a stem and what follows.

    The stem has the largest singular values of all colours by all kernels, so of kernels that
    weigh the colours alike, one channel is enough.
    """
    outputs, inputs, high, wide = weights[_FIRST].shape
    if parent.stem != 0 or channels > inputs or not _begins_with_full_kernels(parent):
        return parent, weights
    matrix = weights[_FIRST].transpose(0, 1).reshape(inputs, -1)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    channels = min(channels, len(s))
    root = s[:channels].sqrt()
    state = dict(weights)
    state["prep.weight"] = (u[:, :channels] * root).T[..., None, None]
    state[_FIRST] = (
        (root[:, None] * v[:channels]).reshape(channels, outputs, high, wide).transpose(0, 1)
    )
    if parent.bias:
        state["prep.bias"] = matrix.new_zeros(channels)
    return _with_first(parent, stem=channels), state


def _with_first(parent: FilterNetConfig, stem: int) -> FilterNetConfig:
    """Another stem before a first block that mixes all channels."""
    depthwise = [False, *(block.depthwise for block in parent.blocks[1:])]
    changed = parent.model_dump() | {"stem": stem, "depthwise": depthwise}
    return FilterNetConfig.model_validate(changed)


def head(
    parent: FilterNetConfig,
    weights: State,
    child: FilterNetConfig,
    channels: Channels,
    blocks: Sequence[BlockShape],
    state: dict[str, Tensor],
) -> None:
    """Write the head of the child, whose last block has these channels."""
    if child.head == "conv":
        target = state["post.weight"]
        if parent.head == "conv":
            out: Channels = list(range(len(target)))
            copy(state, "post.weight", mapped(weights["post.weight"], target, out, channels))
            copy_channels(state, weights, "post.bias", "post.bias", out)
        else:
            copy(state, "post.weight", torch.ones_like(target))
            if "post.bias" in state:
                state["post.bias"].zero_()
        if child.output_activation == "sigmoid" and parent.output_activation in ("none", "relu"):
            before_sigmoid(state["post.weight"], state.get("post.bias"))
    elif parent.head == "conv" and child.output_channels == 1:
        _fold(weights["post.weight"], channels, blocks[-1], len(blocks) - 1, state)


def _fold(
    head: Tensor, channels: Channels, last: BlockShape, number: int, state: dict[str, Tensor]
) -> None:
    """Multiply the weights of a 1x1 head into the last block, so that a sum can replace the
    head."""
    degree = activation(last.activation).degree
    if degree is None or last.has_skip:
        return
    layer = "conv.1" if last.separable else "conv.0"
    for channel, old in enumerate(channels):
        if old is None or old >= head.shape[1]:  # the head belonged to a block that is gone
            continue
        factor = float(head[0, old, 0, 0])
        if last.activation != "none":
            factor = abs(factor)
        scale = abs(factor) ** (1 / degree) * (1 if factor >= 0 else -1)
        for name in (f"main.{number}.{layer}.weight", f"main.{number}.{layer}.bias"):
            if name in state:
                state[name][channel] *= scale
