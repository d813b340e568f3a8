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
from clapp.models.activations import activation
from clapp.models.family import State

_FIRST = "main.0.conv.0.weight"

Channels = list[int | None]
"""For each channel of the child, the parent's channel that it inherits; None: it is new."""


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
        parent, weights = _without_stem(parent, weights)
    elif parent.stem == 0 or child.stem_channels < parent.stem_channels:
        parent, weights = _with_stem(*_without_stem(parent, weights), child.stem_channels)
    old_blocks, blocks = _modules(parent), _modules(child)
    pairs = _aligned(old_blocks, blocks)
    channels = _stem(parent, weights, child, state)
    before: int | None = None
    for number, block in enumerate(blocks):
        partner = pairs[number]
        if partner is None:
            channels = _new_block(number, block, channels, state)
            continue
        if before is not None and partner == before:
            channels = _second_factor(number, weights, partner, state)
        elif pairs.count(partner) == 2:
            channels = _first_factor(number, block, weights, partner, channels, state)
        else:
            old = old_blocks[partner]
            out = _kept(_importance(weights, partner), block.width)
            _block(number, block, channels, out, weights, partner, old, state)
            channels = out
        before = partner
    _head(parent, weights, child, channels, blocks, state)
    return state


def _modules(config: FilterNetConfig) -> Sequence[BlockShape]:
    return config.blocks[:1] if config.shared_weights else config.blocks


def _aligned(old: Sequence[BlockShape], new: Sequence[BlockShape]) -> list[int | None]:
    """For each block of the child, the parent's block that it inherits; None: it is new.

    A factored block of the parent appears twice in a row; blocks that do not appear are dropped.
    """
    if len(new) == len(old) + 1:
        for number in range(len(old)):
            if _is_factored(old[number], new[number], new[number + 1]):
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


def _is_factored(old: BlockShape, first: BlockShape, second: BlockShape) -> bool:
    (height, width), plain = old.kernel, not (old.separable or first.separable or second.separable)
    rows, columns = (height, 1), (1, width)
    crossed = {first.kernel, second.kernel} == {rows, columns} and rows != columns
    return plain and crossed and first.activation == "none" and min(height, width) > 1


def _importance(weights: State, block: int) -> Tensor:
    """The importance of each output channel of a block, by the norm of its kernels."""
    kernels = [
        v for k, v in weights.items() if k.startswith(f"main.{block}.conv.") and v.dim() == 4
    ]
    norms: Tensor = kernels[-1].flatten(1).norm(dim=1)
    return norms


def _kept(importance: Tensor, width: int) -> Channels:
    """The parent's most important channels, in their order, followed by new ones."""
    most = importance.argsort(descending=True)[:width].sort().values.tolist()
    return [*most, *[None] * (width - len(most))]


def _stem(
    parent: FilterNetConfig, weights: State, child: FilterNetConfig, state: dict[str, Tensor]
) -> Channels:
    if child.stem == 0:
        return (
            list(range(child.input_channels)) if parent.stem == 0 else [None] * child.input_channels
        )
    if parent.stem == 0:
        return [None] * child.stem_channels
    out = _kept(weights["prep.weight"].flatten(1).norm(dim=1), child.stem_channels)
    colours: Channels = list(range(child.input_channels))
    _copy(state, "prep.weight", _mapped(weights["prep.weight"], state["prep.weight"], out, colours))
    _copy_channels(state, weights, "prep.bias", "prep.bias", out)
    return out


def _begins_with_full_kernels(config: FilterNetConfig) -> bool:
    """Whether nothing lies between the stem and a convolution that mixes all its channels."""
    first = config.blocks[0]
    apart = first.separable or (first.depthwise and first.channels > 1)
    between = first.has_skip or (first.norm != "none" and first.norm_first)
    return not (apart or between or config.shared_weights)


def _without_stem(parent: FilterNetConfig, weights: State) -> tuple[FilterNetConfig, State]:
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


def _with_stem(
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
            kernel = _mapped(weights[there + name], state[here + name], channels, [0])
            _copy(state, here + name, kernel)
        name = f"{last}.weight"
        source = _as_full(weights[there + name], old)
        target = _as_full(state[here + name], block)
        moved = _mapped(source, target, out, channels)
        _copy(state, here + name, _as_grouped(moved, block))
        _copy_channels(state, weights, here + f"{last}.bias", there + f"{last}.bias", out)
    normed = channels if block.norm_first else out
    for name in ("norm.weight", "norm.bias"):
        _copy_channels(state, weights, here + name, there + name, normed)
    for name in ("alfa", "beta"):
        _copy_channels(state, weights, here + name, there + name, out, dim=1)


def _new_block(
    number: int, block: BlockShape, channels: Channels, state: dict[str, Tensor]
) -> Channels:
    """A new block: the identity, where channels and activation allow it."""
    if block.separable or block.depthwise or block.channels != block.width:
        return [None] * block.width
    name = f"main.{number}.conv.0.weight"
    identity = torch.zeros_like(state[name])
    middle = block.kernel[0] // 2, block.kernel[1] // 2
    for channel in range(block.width):
        identity[channel, channel, middle[0], middle[1]] = 1
    _copy(state, name, identity)
    bias = f"main.{number}.conv.0.bias"
    if bias in state:
        state[bias].zero_()
    return channels


def _first_factor(
    number: int,
    block: BlockShape,
    weights: State,
    partner: int,
    channels: Channels,
    state: dict[str, Tensor],
) -> Channels:
    """Write the first of two convolutions whose product is nearest to the parent's kernels."""
    first, second = _factors(weights[f"main.{partner}.conv.0.weight"], block)
    rank: Channels = [*range(min(block.width, first.shape[0]))]
    rank += [None] * (block.width - len(rank))
    name = f"main.{number}.conv.0.weight"
    target = _as_full(state[name], block)
    _copy(state, name, _as_grouped(_mapped(first, target, rank, channels), block))
    bias = f"main.{number}.conv.0.bias"
    if bias in state:
        state[bias].zero_()
    following = f"main.{number + 1}.conv.0.weight"
    target = state[following]
    if target.shape[1] == block.width:
        out: Channels = list(range(min(len(target), len(second))))
        out += [None] * (len(target) - len(out))
        _copy(state, following, _mapped(second, target, out, rank))
    else:  # depthwise: one factor for each channel
        for channel in range(min(len(target), len(second))):
            target[channel, 0] = second[channel, min(channel, second.shape[1] - 1)]
    return rank


def _second_factor(number: int, weights: State, partner: int, state: dict[str, Tensor]) -> Channels:
    """Write the second of two convolutions; `_first_factor` has written its kernels."""
    width = len(state[f"main.{number}.conv.0.weight"])
    count = len(weights[f"main.{partner}.conv.0.weight"])
    out: Channels = [channel if channel < count else None for channel in range(width)]
    bias = "conv.0.bias"
    _copy_channels(state, weights, f"main.{number}.{bias}", f"main.{partner}.{bias}", out)
    return out


def _factors(kernels: Tensor, first: BlockShape) -> tuple[Tensor, Tensor]:
    """Kernels (O, I, h, w) as a product: (R, I, h, 1), then (O, R, 1, w), or in the other order.

    They come from a singular value decomposition, largest singular values first.
    """
    outputs, inputs, height, width = kernels.shape
    columns_first = first.kernel[0] > 1
    order = (1, 2, 0, 3) if columns_first else (1, 3, 0, 2)
    near, far = (height, width) if columns_first else (width, height)
    matrix = kernels.permute(order).reshape(inputs * near, outputs * far)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    root = s.sqrt()
    one = (u * root).T.reshape(-1, inputs, near)
    two = (root[:, None] * v).reshape(-1, outputs, far).transpose(0, 1)
    if columns_first:
        return one[..., None], two[..., None, :]
    return one[..., None, :], two[..., None]


def _head(
    parent: FilterNetConfig,
    weights: State,
    child: FilterNetConfig,
    channels: Channels,
    blocks: Sequence[BlockShape],
    state: dict[str, Tensor],
) -> None:
    if child.head == "conv":
        target = state["post.weight"]
        if parent.head == "conv":
            out: Channels = list(range(len(target)))
            _copy(state, "post.weight", _mapped(weights["post.weight"], target, out, channels))
            _copy_channels(state, weights, "post.bias", "post.bias", out)
        else:
            _copy(state, "post.weight", torch.ones_like(target))
            if "post.bias" in state:
                state["post.bias"].zero_()
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
        if old is None:
            continue
        factor = float(head[0, old, 0, 0])
        if last.activation != "none":
            factor = abs(factor)
        scale = abs(factor) ** (1 / degree) * (1 if factor >= 0 else -1)
        for name in (f"main.{number}.{layer}.weight", f"main.{number}.{layer}.bias"):
            if name in state:
                state[name][channel] *= scale


def _mapped(source: Tensor, target: Tensor, out: Channels, channels: Channels) -> Tensor:
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
            result[o, i] = _resized(kernel, target.shape[2], target.shape[3])
    return result


def _resized(kernel: Tensor, height: int, width: int) -> Tensor:
    """Crop a kernel to its middle, or pad it with zeros."""
    result = kernel.new_zeros(height, width)
    high, wide = min(height, kernel.shape[0]), min(width, kernel.shape[1])
    top, left = (height - high) // 2, (width - wide) // 2
    from_top, from_left = (kernel.shape[0] - high) // 2, (kernel.shape[1] - wide) // 2
    result[top : top + high, left : left + wide] = kernel[
        from_top : from_top + high, from_left : from_left + wide
    ]
    return result


def _as_full(kernels: Tensor, block: BlockShape) -> Tensor:
    """Depthwise kernels (O, 1, h, w) as full ones (O, I, h, w) with zeros between channels."""
    if not block.depthwise or block.channels == 1:
        return kernels
    full = kernels.new_zeros(len(kernels), block.channels, *kernels.shape[2:])
    for o in range(len(kernels)):
        full[o, o // (len(kernels) // block.channels)] = kernels[o, 0]
    return full


def _as_grouped(kernels: Tensor, block: BlockShape) -> Tensor:
    """The reverse of `_as_full`: the part of full kernels that a depthwise convolution can hold."""
    if not block.depthwise or block.channels == 1:
        return kernels
    per = len(kernels) // block.channels
    return torch.stack([kernels[o, o // per] for o in range(len(kernels))])[:, None]


def _copy(state: dict[str, Tensor], name: str, value: Tensor) -> None:
    state[name] = value.reshape(state[name].shape).to(state[name].dtype)


def _copy_channels(
    state: dict[str, Tensor], weights: State, name: str, old: str, out: Channels, dim: int = 0
) -> None:
    """Copy values of channels that both networks have."""
    if name not in state or old not in weights:
        return
    target, source = state[name].movedim(dim, 0), weights[old].movedim(dim, 0)
    for channel, before in enumerate(out[: len(target)]):
        if before is not None and before < len(source):
            target[channel] = source[before]
