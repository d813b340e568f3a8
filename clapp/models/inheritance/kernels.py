"""Kernels (O, I, h, w) of a child from those of its parent."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clapp.config import BlockShape
from clapp.models.family import State

Channels = list[int | None]
"""For each channel of the child, the parent's channel that it inherits; None: it is new."""


def mapped(source: Tensor, target: Tensor, out: Channels, channels: Channels) -> Tensor:
    """Kernels of the child (O, I, h, w): the parent's where input and output channel are inherited.

    A new output keeps its fresh kernels; a new input has zero weights to inherited outputs.
    """
    result = target.clone()
    for o, old in enumerate(out):
        if old is None or old >= len(source):
            continue
        for i, before in enumerate(channels):
            known = before is not None and before < source.shape[1]
            kernel = source[old, before] if known else torch.zeros_like(source[0, 0])
            result[o, i] = resized(kernel, target.shape[2], target.shape[3])
    return result


def resized(kernel: Tensor, height: int, width: int) -> Tensor:
    """Crop a kernel to its middle, or pad it with zeros."""
    result = kernel.new_zeros(height, width)
    high, wide = min(height, kernel.shape[0]), min(width, kernel.shape[1])
    top, left = (height - high) // 2, (width - wide) // 2
    from_top, from_left = (kernel.shape[0] - high) // 2, (kernel.shape[1] - wide) // 2
    result[top : top + high, left : left + wide] = kernel[
        from_top : from_top + high, from_left : from_left + wide
    ]
    return result


def as_full(kernels: Tensor, block: BlockShape) -> Tensor:
    """Depthwise kernels (O, 1, h, w) as full ones (O, I, h, w) with zeros between channels."""
    if not block.depthwise or block.channels == 1:
        return kernels
    full = kernels.new_zeros(len(kernels), block.channels, *kernels.shape[2:])
    for o in range(len(kernels)):
        full[o, o // (len(kernels) // block.channels)] = kernels[o, 0]
    return full


def as_grouped(kernels: Tensor, block: BlockShape) -> Tensor:
    """The reverse of `as_full`: the part of full kernels that a depthwise convolution can hold."""
    if not block.depthwise or block.channels == 1:
        return kernels
    per = len(kernels) // block.channels
    return torch.stack([kernels[o, o // per] for o in range(len(kernels))])[:, None]


def copy(state: dict[str, Tensor], name: str, value: Tensor) -> None:
    """Replace a value of the state, in its own shape and type."""
    state[name] = value.reshape(state[name].shape).to(state[name].dtype)


def copy_channels(
    state: dict[str, Tensor], weights: State, name: str, old: str, out: Channels, dim: int = 0
) -> None:
    """Copy values of channels that both networks have."""
    if name not in state or old not in weights:
        return
    target, source = state[name].movedim(dim, 0), weights[old].movedim(dim, 0)
    for channel, before in enumerate(out[: len(target)]):
        if before is not None and before < len(source):
            target[channel] = source[before]


def is_apart(block: BlockShape) -> bool:
    """Whether a block keeps its channels apart: each output channel sees one input channel."""
    return block.depthwise and block.channels > 1 and not block.separable


def followed(block: BlockShape, old: BlockShape, channels: Channels) -> Channels | None:
    """The channels of a block that keeps them apart follow from those before it; None: it mixes
    them, here or in the parent."""
    per = block.width // block.channels
    if not (is_apart(block) and is_apart(old) and old.width == per * old.channels):
        return None
    return [None if one is None else one * per + i for one in channels for i in range(per)]


def kept(importance: Tensor, width: int) -> Channels:
    """The parent's most important channels, in their order, followed by new ones."""
    most = importance.argsort(descending=True)[:width].sort().values.tolist()
    return [*most, *[None] * (width - len(most))]


def importance(blocks: Sequence[BlockShape], weights: State, number: int) -> Tensor:
    """The importance of each output channel of a block: the norm of its kernels, times their use.

    Only the product counts: twice the one and half the other is the same network.
    """
    last = "conv.1" if blocks[number].separable else "conv.0"
    return norms(weights[f"main.{number}.{last}.weight"]) * use(blocks, weights, number + 1)


def norms(kernels: Tensor) -> Tensor:
    """The norm of each of the first dimension."""
    found: Tensor = kernels.flatten(1).norm(dim=1)
    return found


def use(blocks: Sequence[BlockShape], weights: State, number: int) -> Tensor:
    """How much block `number`, or the head after the last one, makes of each channel before it."""
    if number == len(blocks):
        head = weights.get("post.weight")
        return torch.ones(()) if head is None else norms(head.transpose(0, 1))
    block, first = blocks[number], weights[f"main.{number}.conv.0.weight"]
    if block.separable:
        pointwise = weights[f"main.{number}.conv.1.weight"]
        made = norms(first) * norms(pointwise.transpose(0, 1))
    elif is_apart(block):
        each = norms(first) * use(blocks, weights, number + 1)
        made = norms(each.reshape(block.channels, -1))
    else:
        made = norms(first.transpose(0, 1))
    return made + use(blocks, weights, number + 1) if block.has_skip else made
