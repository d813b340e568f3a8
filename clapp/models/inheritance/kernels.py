"""Kernels (O, I, h, w) of a child from those of its parent."""

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


def kept(importance: Tensor, width: int) -> Channels:
    """The parent's most important channels, in their order, followed by new ones."""
    most = importance.argsort(descending=True)[:width].sort().values.tolist()
    return [*most, *[None] * (width - len(most))]


def importance(weights: State, block: int) -> Tensor:
    """The importance of each output channel of a block, by the norm of its kernels."""
    kernels = [
        v for k, v in weights.items() if k.startswith(f"main.{block}.conv.") and v.dim() == 4
    ]
    norms: Tensor = kernels[-1].flatten(1).norm(dim=1)
    return norms
