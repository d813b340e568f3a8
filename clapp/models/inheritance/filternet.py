"""Initial weights of a FilterNet from those of a similar, trained one.

The idea is that of network morphisms in LEMONADE (Elsken et al. 2019): a child differs from its
parent in a few keys and inherits the parent's weights. If channels are dropped, the most important
ones stay; if a kernel shrinks, its middle stays; a k x k kernel is factored into the column and row
whose product is nearest to it. New weights start without an effect where that is possible.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from clapp.config import BlockShape, FilterNetConfig
from clapp.models.family import State
from clapp.models.inheritance.ends import head, stem, with_stem, without_stem
from clapp.models.inheritance.factors import first_factor, fused, is_factored, second_factor
from clapp.models.inheritance.kernels import (
    Channels,
    as_full,
    as_grouped,
    copy,
    copy_channels,
    followed,
    importance,
    kept,
    mapped,
    norms,
)

SOFT = 0.03
"""The size of a new channel's kernels before a sum of channels, relative to the others'."""


def inherited(
    parent: FilterNetConfig, weights: State, child: FilterNetConfig, fresh: State
) -> State:
    """Weights for `child` from those of `parent`.

    Args:
        parent: the trained network, and its `weights`.
        fresh: newly drawn weights of the child, used for new parts.

    Returns:
        A state of the child; weights that have no counterpart are those of `fresh`.
    """
    state = {name: value.clone() for name, value in fresh.items()}
    if child.stem == 0:
        parent, weights = without_stem(parent, weights)
    elif parent.stem == 0 or child.stem_channels < parent.stem_channels:
        parent, weights = with_stem(*without_stem(parent, weights), child.stem_channels)
    parent, weights = fused(parent, weights, child)
    old_blocks, blocks = parent.own_blocks, child.own_blocks
    pairs = _aligned(old_blocks, blocks)
    channels = stem(parent, weights, child, state)
    before: int | None = None
    for number, block in enumerate(blocks):
        partner = pairs[number]
        if partner is None:
            channels = _new_block(number, block, channels, state)
            continue
        old = old_blocks[partner]
        if before is not None and partner == before:
            channels = second_factor(number, weights, partner, state)
        elif pairs.count(partner) == 2:
            channels = first_factor(number, block, weights, partner, old, channels, state)
        else:
            out = followed(block, old, channels)
            if out is None:
                out = kept(importance(old_blocks, weights, partner), block.width)
            _block(number, block, channels, out, weights, partner, old, state)
            channels = out
        before = partner
    head(parent, weights, child, channels, blocks, state)
    if child.head == "sum":
        _soften(channels, blocks, state)
    return state


def _soften(channels: Channels, blocks: Sequence[BlockShape], state: dict[str, Tensor]) -> None:
    """Make the new channels of the last block small beside the others: a sum takes them as they
    are, and a child with more channels should begin where its parent ended."""
    new = [channel for channel, old in enumerate(channels) if old is None]
    last = f"main.{len(blocks) - 1}.conv.{int(blocks[-1].separable)}"
    kernels = state[f"{last}.weight"]
    if not new or len(new) == len(kernels):
        return
    size = norms(kernels)
    usual = size[[channel for channel, old in enumerate(channels) if old is not None]].mean()
    factors = SOFT * usual / size[new].clamp(min=1e-12)
    kernels[new] *= factors[:, None, None, None]
    if f"{last}.bias" in state:
        state[f"{last}.bias"][new] = 0


def _aligned(old: Sequence[BlockShape], new: Sequence[BlockShape]) -> list[int | None]:
    """For each block of the child, the parent's block that it inherits; None: it is new.

    A factored block of the parent appears twice in a row; blocks that do not appear are dropped.
    """
    if len(new) == len(old) + 1:
        for number in range(len(old)):
            if is_factored(old[number], new[number], new[number + 1]):
                return [*range(number + 1), *range(number, len(old))]
        return _best([[*range(p), None, *range(p, len(old))] for p in range(len(new))], old, new)
    if len(new) + 1 == len(old):
        return _best([[i + (i >= p) for i in range(len(new))] for p in range(len(old))], old, new)
    return [number if number < len(old) else None for number in range(len(new))]


def _best(
    ways: list[list[int | None]], old: Sequence[BlockShape], new: Sequence[BlockShape]
) -> list[int | None]:
    """The alignment of child and parent blocks under which most of their keys agree."""

    def agreement(way: list[int | None]) -> int:
        partners = zip(new, way, strict=True)
        return sum(
            a == b
            for block, p in partners
            if p is not None
            for a, b in zip(block, old[p], strict=True)
        )

    return max(ways, key=agreement)


def _block(
    number: int,
    block: BlockShape,
    channels: Channels,
    out: Channels,
    weights: State,
    partner: int,
    old: BlockShape,
    state: dict[str, Tensor],
) -> None:
    """Copy a block that is a single block in both networks."""
    here, there = f"main.{number}.", f"main.{partner}."
    if block.separable == old.separable:
        last = "conv.1" if block.separable else "conv.0"
        if block.separable:
            name = "conv.0.weight"
            kernel = mapped(weights[there + name], state[here + name], channels, [0])
            copy(state, here + name, kernel)
        name = f"{last}.weight"
        source = as_full(weights[there + name], old)
        target = as_full(state[here + name], block)
        moved = mapped(source, target, out, channels)
        copy(state, here + name, as_grouped(moved, block))
        copy_channels(state, weights, here + f"{last}.bias", there + f"{last}.bias", out)
    normed = channels if block.norm_first else out
    for name in ("norm.weight", "norm.bias"):
        copy_channels(state, weights, here + name, there + name, normed)
    for name in ("alfa", "beta"):
        copy_channels(state, weights, here + name, there + name, out, dim=1)


def _new_block(
    number: int, block: BlockShape, channels: Channels, state: dict[str, Tensor]
) -> Channels:
    """A new block: the identity, where channels and activation allow it."""
    if block.separable or block.channels != block.width:
        return [None] * block.width
    name = f"main.{number}.conv.0.weight"
    identity = torch.zeros_like(state[name])
    middle = block.kernel[0] // 2, block.kernel[1] // 2
    for channel in range(block.width):
        identity[channel, 0 if block.depthwise else channel, middle[0], middle[1]] = 1
    copy(state, name, identity)
    bias = f"main.{number}.conv.0.bias"
    if bias in state:
        state[bias].zero_()
    return channels
