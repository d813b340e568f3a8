"""Rules of the forward mode: how torch's functions change values and their tangents.

A function without a rule, or a use of it that a rule refuses, raises NotImplementedError; the
network is then left to torch's own forward mode.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clapp.training.optimisers.duals import Dual, Leaf, Part, as_dual, offset, rule, scaled

_FEW_WEIGHTS = 40
"""Up to this many weights a sum of shifted pictures is faster than torch's convolution."""


@rule(F.conv2d)
def _conv2d(
    x: Tensor | Dual,
    weight: Leaf | Tensor,
    bias: Leaf | Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Dual:
    if any(step != 1 for step in _pair(stride)):
        raise NotImplementedError("no derivative is known here for a convolution with a stride")
    high, wide = _pair(padding)
    if high or wide:
        x = _pad(x, (wide, wide, high, high))
    x, apart = as_dual(x), _pair(dilation)
    kernel = _value(weight)
    y = F.conv2d(x.value, kernel, None if bias is None else _value(bias), 1, 0, dilation, groups)
    parts = [_through(part, kernel, apart, groups) for part in x.parts]
    if isinstance(weight, Leaf):
        parts += _weight_tangents(x.value, weight, y, apart, groups)
    if isinstance(bias, Leaf):
        parts += offset(bias, y)
    return Dual(y, parts)


def _value(weight: Leaf | Tensor) -> Tensor:
    """Of a parameter, or of a tensor that is none."""
    if isinstance(weight, Dual):
        raise NotImplementedError("no rule for weights that are computed from parameters")
    return weight.value if isinstance(weight, Leaf) else weight


def _through(part: Part, weight: Tensor, dilation: tuple[int, int], groups: int) -> Part:
    """Tangents of a convolution's input, at its output."""
    channel, inputs = part.channel, weight.shape[1]
    if channel is None:
        return part.each(lambda v: _convolved(v, weight, dilation, groups))
    per = len(weight) // groups
    group = channel // inputs
    concerned = weight[group * per : (group + 1) * per, channel % inputs, None]  # (per, 1, h, w)
    moved = Part(part.values, part.rows).each(lambda v: _convolved(v, concerned, dilation, 1))
    if groups == 1:
        return moved
    if per == 1:
        return Part(moved.values, moved.rows, group)
    count, batch, _, height, width = moved.values.shape
    full = moved.values.new_zeros(count, batch, len(weight), height, width)
    full[:, :, group * per : (group + 1) * per] = moved.values
    return Part(full, moved.rows)


def _convolved(x: Tensor, weight: Tensor, dilation: tuple[int, int], groups: int) -> Tensor:
    """F.conv2d without padding, for thousands of pictures of few channels.

    On a processor a sum of shifted pictures is up to 50 times as fast while there are few weights:
    measured with 150 to 300 pictures of 40x40 pixels on one core, 5x1 depthwise on 2 channels 0.5
    ms instead of 24, 1x1 from 2 to 1 0.1 instead of 5.9, 3x3 from 2 to 2 3.6 instead of 4.9.
    """
    outputs, inputs, high, wide = weight.shape
    if x.device.type != "cpu":
        return F.conv2d(x, weight, None, 1, 0, dilation, groups)
    if weight.numel() > _FEW_WEIGHTS:
        x = x.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, None, 1, 0, dilation, groups).contiguous()
    rows = x.shape[2] - dilation[0] * (high - 1)
    columns = x.shape[3] - dilation[1] * (wide - 1)
    y = x.new_zeros(len(x), outputs, rows, columns)
    values = weight.flatten().tolist()
    taps = itertools.product(*map(range, weight.shape))
    for (o, i, a, b), value in zip(taps, values, strict=True):
        channel = o // (outputs // groups) * inputs + i
        top, left = a * dilation[0], b * dilation[1]
        y[:, o].add_(x[:, channel, top : top + rows, left : left + columns], alpha=value)
    return y


def _weight_tangents(
    x: Tensor, weight: Leaf, y: Tensor, dilation: tuple[int, int], groups: int
) -> list[Part]:
    """The derivative of a convolution by each weight: one input channel, shifted, in one output."""
    outputs, inputs, high, wide = weight.value.shape
    rows, columns = y.shape[-2:]
    count, per = inputs * high * wide, outputs // groups
    parts = []
    for group in range(groups):
        shifted = y.new_empty(inputs, high, wide, len(y), 1, rows, columns)
        for i, a, b in itertools.product(range(inputs), range(high), range(wide)):
            top, left = a * dilation[0], b * dilation[1]
            channel = group * inputs + i
            shifted[i, a, b, :, 0] = x[:, channel, top : top + rows, left : left + columns]
        values = shifted.flatten(0, 2)
        parts += [
            Part(values, weight.rows(output * count, count), output)
            for output in range(group * per, (group + 1) * per)
        ]
    return parts


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        raise NotImplementedError(f"no derivative is known here for padding {value!r}")
    return (value, value) if isinstance(value, int) else (value[0], value[1])


@rule(F.pad)
def _pad(x: Tensor | Dual, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Any:
    if not isinstance(x, Dual):
        return F.pad(x, pad, mode, value)
    if len(pad) > 4:
        raise NotImplementedError("no rule for more channels or pictures at the border")
    # The border's constant depends on no parameter: its tangents are zero.
    parts = [part.each(lambda v: F.pad(v, pad, mode)) for part in x.parts]
    return Dual(F.pad(x.value, pad, mode, value), parts)


@rule(F.group_norm)
def _group_norm(
    x: Tensor | Dual,
    groups: int,
    weight: Leaf | Tensor | None = None,
    bias: Leaf | Tensor | None = None,
    eps: float = 1e-5,
) -> Dual:
    if groups != 1:
        raise NotImplementedError("no derivative is known here for several groups")
    dims = (-3, -2, -1)
    x = as_dual(x).merged()
    deviation = (x.value.var(dims, correction=0, keepdim=True) + eps).sqrt()
    normal = (x.value - x.value.mean(dims, keepdim=True)) / deviation
    (part,) = x.parts
    moved = part.values - part.values.mean(dims, keepdim=True)
    moved = (moved - normal * (part.values * normal).mean(dims, keepdim=True)) / deviation
    result = Dual(normal, [Part(moved, part.rows)])
    if isinstance(weight, Leaf):
        result = scaled(Leaf(weight.value.view(1, -1, 1, 1), weight.start), result)
    elif weight is not None:
        result = result * _value(weight).view(1, -1, 1, 1)
    if bias is not None:
        result = result + _value(bias).view(1, -1, 1, 1)
    own = offset(bias, result.value) if isinstance(bias, Leaf) else []
    return Dual(result.value, [*result.parts, *own])


@rule(F.max_pool2d)
def _max_pool2d(
    x: Dual,
    size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Dual:
    if ceil_mode or return_indices or dilation != 1:
        raise NotImplementedError("no rule for a maximum of this kind")
    value, index = F.max_pool2d(x.value, size, stride, padding, return_indices=True)

    def picked(part: Part) -> Part:
        where = index if part.channel is None else index[:, part.channel, None]
        flat = where.flatten(2).expand(len(part.values), *where.flatten(2).shape)
        values = part.values.flatten(3).gather(3, flat)
        return Part(values.view(*flat.shape[:3], *value.shape[2:]), part.rows, part.channel)

    return Dual(value, [picked(part) for part in x.parts])


@rule(F.avg_pool2d)
def _avg_pool2d(x: Tensor | Dual, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(x, Dual):
        return F.avg_pool2d(x, *args, **kwargs)
    return x.each(lambda v: F.avg_pool2d(v, *args, **kwargs))


@rule(F.interpolate)
def _interpolate(x: Dual, *args: Any, **kwargs: Any) -> Dual:
    return x.each(lambda v: F.interpolate(v, *args, **kwargs))


@rule(torch.sum)
def _sum(x: Dual, dim: int, keepdim: bool = False) -> Dual:
    if dim != 1 or not keepdim:
        raise NotImplementedError("a sum has a derivative here over the channels only")
    # Of one channel the sum is that channel.
    parts = [Part(part.values.sum(2, keepdim=True), part.rows) for part in x.parts]
    return Dual(x.value.sum(1, keepdim=True), parts)


@rule(torch.cat)
def _cat(tensors: Sequence[Tensor | Dual], dim: int = 0) -> Dual:
    duals = [as_dual(one) for one in tensors]
    rows = tuple(sorted(set(itertools.chain(*(p.rows for dual in duals for p in dual.parts)))))
    tangents = torch.cat([dual.tangents(rows) for dual in duals], dim % 4 + 1)
    return Dual(torch.cat([dual.value for dual in duals], dim), [Part(tangents, rows)])


@rule(torch.amax)
def _amax(x: Dual, dim: tuple[int, ...], keepdim: bool = False) -> Dual:
    if tuple(dim) != (1, 2, 3) or not keepdim:
        raise NotImplementedError("a maximum has a derivative here over a whole picture only")
    values, index = x.value.flatten(1).max(1)
    channels = x.value.shape[1]

    def picked(part: Part) -> Part:
        flat = part.dense(channels).flatten(2)
        where = index.view(1, -1, 1).expand(len(flat), -1, 1)
        return Part(flat.gather(2, where)[..., None, None], part.rows)

    return Dual(values.view(-1, 1, 1, 1), [picked(part) for part in x.parts])
