"""Forward-mode derivatives of a network's output with respect to every one of its parameters.

A `Dual` is a value together with its tangents, one for each parameter it depends on so far. Torch's
own forward mode carries the tangents of all parameters from the first layer to the last; here a
parameter's tangent begins where the parameter is used: that of a weight is its input, shifted. With
tens of parameters and few channels this is what makes a Jacobian cheap.

The rules at the end say which operations are known. A network that uses another one is left to
torch's forward mode, which knows all.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_F = TypeVar("_F", bound=Callable[..., Any])
_RULES: dict[Callable[..., Any], Callable[..., Any]] = {}


class Leaf:
    """A parameter: its tangents are unit vectors; `start` is its place among all parameters."""

    def __init__(self, value: Tensor, start: int) -> None:
        self.value, self.start = value, start

    @property
    def shape(self) -> torch.Size:
        """Of the parameter."""
        return self.value.shape

    def rows(self, start: int = 0, count: int | None = None) -> tuple[int, ...]:
        """Places of `count` of its numbers from number `start` on; None: all."""
        count = self.value.numel() if count is None else count
        return tuple(range(self.start + start, self.start + start + count))

    def __mul__(self, other: "Tensor | Dual") -> "Dual":
        return _scaled(self, other)

    __rmul__ = __mul__

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _apply(func, types, args, kwargs)


@dataclass(frozen=True)
class Part:
    """Tangents of some parameters.

    Attributes:
        values: (P, B, C, H, W), or (P, B, 1, H, W) where one channel alone is concerned.
        rows: the places of the P parameters.
        channel: that channel; None: all are.
    """

    values: Tensor
    rows: tuple[int, ...]
    channel: int | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> "Part":
        """`function`, linear in (B, C, H, W) and channel by channel, of every tangent."""
        count, batch = self.values.shape[:2]
        moved = function(self.values.flatten(0, 1))
        return Part(moved.view(count, batch, *moved.shape[1:]), self.rows, self.channel)

    def times(self, factor: Tensor) -> "Part":
        """Multiplied by a factor that may differ from channel to channel: (B or 1, C, H, W)."""
        if self.channel is not None and factor.shape[1] > 1:
            factor = factor[:, self.channel : self.channel + 1]
        return Part(self.values * factor, self.rows, self.channel)

    def dense(self, channels: int) -> Tensor:
        """(P, B, C, H, W), with zeros in the channels that are not concerned."""
        if self.channel is None:
            return self.values
        count, batch, _, height, width = self.values.shape
        full = self.values.new_zeros(count, batch, channels, height, width)
        full[:, :, self.channel] = self.values[:, :, 0]
        return full


class Dual:
    """A value (B, C, H, W) and its tangents, in parts that add up."""

    def __init__(self, value: Tensor, parts: Sequence[Part] = ()) -> None:
        self.value, self.parts = value, parts

    @property
    def shape(self) -> torch.Size:
        """Of the value."""
        return self.value.shape

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"no rule for {name}")

    def each(self, function: Callable[[Tensor], Tensor]) -> "Dual":
        """`function`, linear in (B, C, H, W) and channel by channel."""
        return Dual(function(self.value), [part.each(function) for part in self.parts])

    def times(self, factor: Tensor, value: Tensor) -> "Dual":
        """`value`, with the tangents multiplied by `factor`."""
        return Dual(value, [part.times(factor) for part in self.parts])

    def tangents(self, rows: Sequence[int]) -> Tensor:
        """(P, B, C, H, W) for the parameters at `rows`, in order."""
        place = {row: number for number, row in enumerate(rows)}
        total = self.value.new_zeros(len(rows), *self.value.shape)
        for part in self.parts:
            places = [place[row] for row in part.rows]
            index = torch.tensor(places, dtype=torch.long, device=total.device)
            values = part.dense(self.value.shape[1])
            total.index_add_(0, index, values.expand(-1, *self.value.shape))
        return total

    def merged(self) -> "Dual":
        """The same tangents in one part."""
        rows = tuple(sorted(set(itertools.chain(*(part.rows for part in self.parts)))))
        return Dual(self.value, [Part(self.tangents(rows), rows)])

    def __add__(self, other: Any) -> "Dual":
        if not isinstance(other, Dual):
            return Dual(self.value + other, self.parts)
        total = Dual(self.value + other.value, [*self.parts, *other.parts])
        # Without this the parts would double at every skip.
        return (
            total.merged()
            if {p.rows for p in self.parts} & {p.rows for p in other.parts}
            else total
        )

    def __neg__(self) -> "Dual":
        return self.each(torch.neg)

    def __sub__(self, other: Any) -> "Dual":
        negative: Any = -other
        return self.__add__(negative)

    def __mul__(self, other: Any) -> "Dual":
        if isinstance(other, Leaf):
            return _scaled(other, self)
        if not isinstance(other, Dual):
            return Dual(
                self.value * other, [Part(p.values * other, p.rows, p.channel) for p in self.parts]
            )
        value = self.value * other.value
        first, second = self.times(other.value, value), other.times(self.value, value)
        return Dual(value, [*first.parts, *second.parts])

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> "Dual":
        if not isinstance(other, Dual):
            return self.__mul__(1 / other)
        value = self.value / other.value
        first = self.times(1 / other.value, value)
        second = other.times(-value / other.value, value)
        return Dual(value, [*first.parts, *second.parts])

    def __getitem__(self, index: Any) -> "Dual":
        whole = index if isinstance(index, tuple) else (index,)
        if Ellipsis in whole:
            inner = (slice(None), *whole)
            parts = [Part(p.values[inner], p.rows, p.channel) for p in self.parts]
            return Dual(self.value[index], parts)
        one = self.merged().parts[0]
        return Dual(self.value[index], [Part(one.values[(slice(None), *whole)], one.rows)])

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _apply(func, types, args, kwargs)


def jacobian(net: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """What a network makes of pictures (B, C, H, W), and how each parameter changes it.

    Returns:
        The output (B, Cout, H, W), and its derivatives (P, B, Cout, H, W), in the order of
        `net.parameters()`.
    """
    try:
        with torch.no_grad(), _leaves(net) as count:
            result = net(pictures)
    except NotImplementedError:
        return _by_torch(net, pictures)
    return result.value, result.tangents(range(count))


def _by_torch(net: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The same by torch's own forward mode, for a network with an operation that has no rule."""
    values = {name: p.detach() for name, p in net.named_parameters()}

    def output(values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        y: Tensor = torch.func.functional_call(net, values, (pictures,))
        return y, y

    training = net.training
    net.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.func imports torch.jit
            found, y = torch.func.jacfwd(output, has_aux=True)(values)
    finally:
        net.train(training)
    return y, torch.cat([found[name].flatten(y.dim()).movedim(-1, 0) for name in values])


@contextmanager
def _leaves(net: nn.Module) -> Iterator[int]:
    """Parameters are leaves while the block runs; yields how many numbers they hold."""
    places = [
        (module, name, parameter)
        for module in net.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]
    start, starts = 0, {}
    for parameter in net.parameters():
        starts[id(parameter)] = start
        start += parameter.numel()
    training = net.training
    net.eval()
    try:
        for module, name, parameter in places:
            module._parameters[name] = Leaf(parameter.detach(), starts[id(parameter)])  # type: ignore[assignment]
        yield start
    finally:
        for module, name, parameter in places:
            module._parameters[name] = parameter
        net.train(training)


def _apply(func: Any, _types: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
    rule = _RULES.get(func)
    if rule is not None:
        return rule(*args, **(kwargs or {}))
    if func in _ELEMENTWISE:
        return _elementwise(func, *args, **(kwargs or {}))
    raise NotImplementedError(f"no derivative is known here for {getattr(func, '__name__', func)}")


def rule(function: Callable[..., Any]) -> Callable[[_F], _F]:
    """The decorated function computes torch's `function` of duals and leaves."""

    def keep(own: _F) -> _F:
        _RULES[function] = own
        return own

    return keep


_FEW_WEIGHTS = 40
_ELEMENTWISE = {
    *(torch.abs, torch.square, torch.sqrt, torch.exp, torch.tanh, torch.sigmoid, torch.relu),
    *(F.relu, F.leaky_relu, F.gelu, F.silu, F.elu, F.softplus, F.mish, F.hardtanh, F.hardswish),
}


def _elementwise(func: Callable[..., Tensor], x: Dual, *args: Any, **kwargs: Any) -> Dual:
    with torch.enable_grad():
        given = x.value.detach().requires_grad_()
        value = func(given, *args, **kwargs)
        (slope,) = torch.autograd.grad(value.sum(), given)
    return x.times(slope, value.detach())


def _dual(x: Tensor | Dual) -> Dual:
    """A value that depends on no parameter yet has no tangents."""
    return x if isinstance(x, Dual) else Dual(x)


def _scaled(leaf: Leaf, x: Tensor | Dual) -> Dual:
    """A parameter (1, C, 1, 1) times a value."""
    x = _dual(x)
    own = [
        Part(x.value[None, :, channel : channel + 1], leaf.rows(channel, 1), channel)
        for channel in range(leaf.value.numel())
    ]
    scaled = x.times(leaf.value, leaf.value * x.value)
    return Dual(scaled.value, [*scaled.parts, *own])


def _offset(leaf: Leaf, like: Tensor) -> list[Part]:
    """The tangents of a number that is added to each channel."""
    ones = like.new_ones(1, len(like), 1, *like.shape[2:])
    return [Part(ones, leaf.rows(channel, 1), channel) for channel in range(leaf.value.numel())]


@rule(F.conv2d)
def _conv2d(
    x: Tensor | Dual,
    weight: Leaf,
    bias: Leaf | None = None,
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
    x, apart = _dual(x), _pair(dilation)
    y = F.conv2d(x.value, weight.value, bias.value if bias else None, 1, 0, dilation, groups)
    parts = [_through(part, weight.value, apart, groups) for part in x.parts]
    parts += _weight_tangents(x.value, weight, y, apart, groups)
    if bias is not None:
        parts += _offset(bias, y)
    return Dual(y, parts)


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
    return x.each(lambda v: F.pad(v, pad, mode, value))


@rule(F.group_norm)
def _group_norm(
    x: Tensor | Dual,
    groups: int,
    weight: Leaf | None = None,
    bias: Leaf | None = None,
    eps: float = 1e-5,
) -> Dual:
    if groups != 1:
        raise NotImplementedError("no derivative is known here for several groups")
    dims = (-3, -2, -1)
    x = _dual(x).merged()
    deviation = (x.value.var(dims, correction=0, keepdim=True) + eps).sqrt()
    normal = (x.value - x.value.mean(dims, keepdim=True)) / deviation
    (part,) = x.parts
    moved = part.values - part.values.mean(dims, keepdim=True)
    moved = (moved - normal * (part.values * normal).mean(dims, keepdim=True)) / deviation
    result = Dual(normal, [Part(moved, part.rows)])
    if weight is not None:
        result = _scaled(Leaf(weight.value.view(1, -1, 1, 1), weight.start), result)
    if bias is not None:
        value = result.value + bias.value.view(1, -1, 1, 1)
        result = Dual(value, [*result.parts, *_offset(bias, value)])
    return result


@rule(F.max_pool2d)
def _max_pool2d(x: Dual, size: int, stride: int, padding: int, *_: Any, **__: Any) -> Dual:
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
def _cat(duals: Sequence[Dual], dim: int) -> Dual:
    rows = tuple(sorted(set(itertools.chain(*(p.rows for dual in duals for p in dual.parts)))))
    tangents = torch.cat([dual.tangents(rows) for dual in duals], dim + 1)
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
