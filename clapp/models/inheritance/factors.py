"""A convolution as two, and two as one."""

import torch
from torch import Tensor
from torch.nn import functional

from clapp.config import BlockShape, FilterNetConfig, model_config
from clapp.errors import ConfigError
from clapp.models.changes import fusions
from clapp.models.family import State
from clapp.models.inheritance.kernels import (
    Channels,
    as_full,
    as_grouped,
    copy,
    copy_channels,
    mapped,
)


def is_factored(old: BlockShape, first: BlockShape, second: BlockShape) -> bool:
    """Whether two blocks are a column and a row in place of an old one."""
    (height, width), plain = old.kernel, not (old.separable or first.separable or second.separable)
    rows, columns = (height, 1), (1, width)
    crossed = {first.kernel, second.kernel} == {rows, columns} and rows != columns
    return plain and crossed and first.activation == "none" and min(height, width) > 1


def first_factor(
    number: int,
    block: BlockShape,
    weights: State,
    partner: int,
    old: BlockShape,
    channels: Channels,
    state: dict[str, Tensor],
) -> Channels:
    """Write the first of two convolutions whose product is nearest to the parent's kernels."""
    kernels = as_full(weights[f"main.{partner}.conv.0.weight"], old)
    following = f"main.{number + 1}.conv.0.weight"
    target = state[following]
    apart = target.shape[1] == 1 and len(target) == block.width > 1
    first, second = _factors(kernels, block, apart=apart)
    rank: Channels = [*range(min(block.width, first.shape[0]))]
    rank += [None] * (block.width - len(rank))
    name = f"main.{number}.conv.0.weight"
    copy(state, name, as_grouped(mapped(first, as_full(state[name], block), rank, channels), block))
    bias = f"main.{number}.conv.0.bias"
    if bias in state:
        state[bias].zero_()
    if apart:
        count = min(len(target), len(second))
        target[:count] = second[:count]
    elif target.shape[1] == block.width:
        out: Channels = list(range(min(len(target), len(second))))
        out += [None] * (len(target) - len(out))
        copy(state, following, mapped(second, target, out, rank))
    return rank


def second_factor(number: int, weights: State, partner: int, state: dict[str, Tensor]) -> Channels:
    """Write the second of two convolutions; `first_factor` has written its kernels."""
    width = len(state[f"main.{number}.conv.0.weight"])
    count = len(weights[f"main.{partner}.conv.0.weight"])
    out: Channels = [channel if channel < count else None for channel in range(width)]
    bias = "conv.0.bias"
    copy_channels(state, weights, f"main.{number}.{bias}", f"main.{partner}.{bias}", out)
    return out


def _factors(kernels: Tensor, first: BlockShape, *, apart: bool) -> tuple[Tensor, Tensor]:
    """Kernels (O, I, h, w) as a product: (R, I, h, 1), then (O, R, 1, w), or in the other order.

    They come from a singular value decomposition, largest singular values first.

    Args:
        apart: the second one keeps its channels apart: (O, I, h, 1), then (O, 1, 1, w). Each output
            has a decomposition of its own, of which the largest singular value is kept.
    """
    columns_first = first.kernel[0] > 1
    turned = kernels if columns_first else kernels.transpose(2, 3)
    outputs, inputs, near, far = turned.shape
    if apart:
        matrices = turned.reshape(outputs, inputs * near, far)
    else:
        matrices = turned.permute(1, 2, 0, 3).reshape(1, inputs * near, outputs * far)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    root = s.sqrt()
    one, two = (u * root[:, None]).transpose(1, 2), root[..., None] * v
    if apart:
        one, two = one[:, 0].reshape(outputs, inputs, near), two[:, :1]
    else:
        one = one[0].reshape(-1, inputs, near)
        two = two[0].reshape(-1, outputs, far).transpose(0, 1)
    if columns_first:
        return one[..., None], two[..., None, :]
    return one[..., None, :], two[..., None]


def fused(
    parent: FilterNetConfig, weights: State, child: FilterNetConfig
) -> tuple[FilterNetConfig, State]:
    """The same network with two blocks written as one, if that is how the child differs.

    With zeros around the pictures, the product differs from the two near the border.
    """
    fusion = _fusion(parent, child)
    if fusion is None:
        return parent, weights
    block, config = fusion
    first, second = parent.blocks[block : block + 2]
    near, far = f"main.{block}.", f"main.{block + 1}."
    state = {}
    for name, value in weights.items():
        part, number, rest = (*name.split(".", 2), "", "")[:3]
        if part == "main" and int(number) > block + 1:
            state[f"main.{int(number) - 1}.{rest}"] = value
        elif not name.startswith((near, far)):
            state[name] = value
    a = as_full(weights[near + "conv.0.weight"], first)
    b = as_full(weights[far + "conv.0.weight"], second)
    product = functional.conv_transpose2d(a.transpose(0, 1), b.transpose(0, 1)).transpose(0, 1)
    both = first.depthwise and second.depthwise
    block_of_both = second._replace(channels=first.channels, depthwise=both)
    state[near + "conv.0.weight"] = as_grouped(product, block_of_both)
    if parent.bias:
        offset = torch.einsum("omhw,m->o", b, weights[near + "conv.0.bias"])
        state[near + "conv.0.bias"] = weights[far + "conv.0.bias"] + offset
    return config, state


def _fusion(parent: FilterNetConfig, child: FilterNetConfig) -> tuple[int, FilterNetConfig] | None:
    """The first of the two blocks of the parent that are one in the child, and the parent so."""
    if len(child.blocks) + 1 != len(parent.blocks):
        return None
    for block, changes in fusions(parent).items():
        try:
            other = model_config(parent.model_dump() | changes)
        except ConfigError:  # the kernel would be too large
            continue
        if isinstance(other, FilterNetConfig) and other.blocks == child.blocks:
            return block, other
    return None
