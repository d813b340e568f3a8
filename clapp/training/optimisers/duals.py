"""Values that carry their derivatives by parameters, and torch's operators on them.

A `Dual` is a value together with its tangents: its derivatives by each parameter it depends on. A
`Leaf` stands for a parameter itself. Torch hands every function that meets one of them to `_apply`,
which looks for a rule; `tangent_rules.py` has the rules.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

_F = TypeVar("_F", bound=Callable[..., Any])
_RULES: dict[Callable[..., Any], Callable[..., Any]] = {}
_ELEMENTWISE = {
    *(torch.abs, torch.square, torch.sqrt, torch.exp, torch.tanh, torch.sigmoid, torch.relu),
    *(F.relu, F.leaky_relu, F.gelu, F.silu, F.elu, F.softplus, F.mish, F.hardtanh, F.hardswish),
}


class Leaf:
    """A parameter. Its tangents are unit vectors; `start` is its place among all parameters."""

    def __init__(self, value: Tensor, start: int) -> None:
        self.value, self.start = value, start

    @property
    def shape(self) -> torch.Size:
        """Of the parameter."""
        return self.value.shape

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"no rule for {name} of a parameter")

    def rows(self, start: int = 0, count: int | None = None) -> tuple[int, ...]:
        """Places of `count` of its numbers from number `start` on; None: all."""
        count = self.value.numel() if count is None else count
        return tuple(range(self.start + start, self.start + start + count))

    def __mul__(self, other: "Tensor | Dual") -> "Dual":
        return scaled(self, other)

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
        values: (P, B, C, H, W), or (P, B, 1, H, W) where the parameters change one channel only.
        rows: the places of the P parameters.
        channel: that channel; None: the parameters change all channels.
    """

    values: Tensor
    rows: tuple[int, ...]
    channel: int | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> "Part":
        """Apply `function`, linear in (B, C, H, W) and channel by channel, to every tangent."""
        count, batch = self.values.shape[:2]
        moved = function(self.values.flatten(0, 1))
        return Part(moved.view(count, batch, *moved.shape[1:]), self.rows, self.channel)

    def times(self, factor: Tensor) -> "Part":
        """Multiply by a factor that may differ from channel to channel: (B or 1, C, H, W)."""
        if self.channel is not None and factor.shape[1] > 1:
            factor = factor[:, self.channel : self.channel + 1]
        return Part(self.values * factor, self.rows, self.channel)

    def broadcast(self, channels: int, shape: torch.Size) -> "Part":
        """Repeat the tangents of a value of `channels` channels for one of `shape`, (B, C, H, W).

        A single channel that is repeated is no single channel any more.
        """
        channel = self.channel if channels == shape[1] else None
        wide = shape[1] if channel is None else 1
        return Part(self.values.expand(-1, shape[0], wide, *shape[2:]), self.rows, channel)

    def dense(self, channels: int) -> Tensor:
        """(P, B, C, H, W), with zeros in the channels that the parameters do not change."""
        if self.channel is None:
            return self.values
        count, batch, _, height, width = self.values.shape
        full = self.values.new_zeros(count, batch, channels, height, width)
        full[:, :, self.channel] = self.values[:, :, 0]
        return full


class Dual:
    """A value (B, C, H, W) and its tangents: the sum of its parts."""

    def __init__(self, value: Tensor, parts: Sequence[Part] = ()) -> None:
        if value.dim() != 4:
            raise NotImplementedError(f"no rule for values of shape {tuple(value.shape)}")
        self.value, self.parts = value, parts

    @property
    def shape(self) -> torch.Size:
        """Of the value."""
        return self.value.shape

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"no rule for {name}")

    def each(self, function: Callable[[Tensor], Tensor]) -> "Dual":
        """Apply `function`, linear in (B, C, H, W) and channel by channel."""
        return Dual(function(self.value), [part.each(function) for part in self.parts])

    def times(self, factor: Tensor, value: Tensor) -> "Dual":
        """Return `value`, with these tangents multiplied by `factor`.

        Args:
            factor: (B or 1, C or 1, H or 1, W or 1).
            value: (B, C, H, W), as large as this value and the factor together.
        """
        wide = self.broadcast(value.shape)
        return Dual(value, [part.times(factor) for part in wide.parts])

    def broadcast(self, shape: torch.Size) -> "Dual":
        """Repeat the sizes of 1, so that the value has `shape`."""
        if self.value.shape == shape:
            return self
        channels = self.value.shape[1]
        parts = [part.broadcast(channels, shape) for part in self.parts]
        return Dual(self.value.expand(shape), parts)

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
        other = _operand(other)
        value = self.value + (other.value if isinstance(other, Dual) else other)
        first = self.broadcast(value.shape)
        if not isinstance(other, Dual):
            return Dual(value, first.parts)
        second = other.broadcast(value.shape)
        total = Dual(value, [*first.parts, *second.parts])
        # Without this the number of parts would double at every skip connection.
        shared = {p.rows for p in first.parts} & {p.rows for p in second.parts}
        return total.merged() if shared else total

    def __neg__(self) -> "Dual":
        return self.each(torch.neg)

    def __sub__(self, other: Any) -> "Dual":
        negative: Any = -_operand(other)
        return self.__add__(negative)

    def __rsub__(self, other: Any) -> "Dual":
        return (-self).__add__(other)

    def __mul__(self, other: Any) -> "Dual":
        if isinstance(other, Leaf):
            return scaled(other, self)
        if not isinstance(other, Dual):
            factor = _factor(other, self.value)
            return self.times(factor, self.value * factor)
        value = self.value * other.value
        first, second = self.times(other.value, value), other.times(self.value, value)
        return Dual(value, [*first.parts, *second.parts])

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> "Dual":
        other = _operand(other)
        if not isinstance(other, Dual):
            return self.__mul__(1 / other)
        value = self.value / other.value
        first = self.times(1 / other.value, value)
        second = other.times(-value / other.value, value)
        return Dual(value, [*first.parts, *second.parts])

    def __getitem__(self, index: Any) -> "Dual":
        whole = index if isinstance(index, tuple) else (index,)
        if whole[0] is Ellipsis and len(whole) <= 3:  # rows and columns only
            parts = [Part(p.values[whole], p.rows, p.channel) for p in self.parts]
            return Dual(self.value[index], parts)
        one = self.merged().parts[0]
        return Dual(self.value[index], [Part(one.values[(slice(None), *whole)], one.rows)])

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _apply(func, types, args, kwargs)


def rule(function: Callable[..., Any]) -> Callable[[_F], _F]:
    """Make the decorated function compute torch's `function` where a dual or a leaf is given."""

    def keep(own: _F) -> _F:
        _RULES[function] = own
        return own

    return keep


def as_dual(x: Tensor | Dual) -> Dual:
    """Give a plain tensor, which depends on no parameter, an empty list of tangents."""
    if isinstance(x, Leaf):
        raise NotImplementedError("no rule for a parameter in this place")
    return x if isinstance(x, Dual) else Dual(x)


def scaled(leaf: Leaf, x: Tensor | Dual) -> Dual:
    """A parameter (1, C, 1, 1) times a value of C channels or one."""
    factor = leaf.value
    if factor.dim() != 4 or factor.numel() != factor.shape[1]:
        raise NotImplementedError(f"no rule for a factor of shape {tuple(factor.shape)}")
    x = as_dual(x)
    value = factor * x.value
    x, wide = x.broadcast(value.shape), factor.expand(1, value.shape[1], 1, 1)
    result = x.times(wide, value)
    if factor.numel() == 1:
        return Dual(value, [*result.parts, Part(x.value[None], leaf.rows())])
    own = [
        Part(x.value[None, :, channel : channel + 1], leaf.rows(channel, 1), channel)
        for channel in range(factor.numel())
    ]
    return Dual(value, [*result.parts, *own])


def offset(leaf: Leaf, like: Tensor) -> list[Part]:
    """The tangents of a parameter of C numbers, each added to one channel of `like`."""
    ones = like.new_ones(1, len(like), 1, *like.shape[2:])
    return [Part(ones, leaf.rows(channel, 1), channel) for channel in range(leaf.value.numel())]


def _operand(other: Any) -> Any:
    if isinstance(other, Leaf):
        raise NotImplementedError("no rule for a sum or quotient with a parameter")
    return other


def _factor(other: Any, like: Tensor) -> Tensor:
    """A number or a tensor of up to four dimensions, as (1 or B, 1 or C, 1 or H, 1 or W)."""
    factor = torch.as_tensor(other, dtype=like.dtype, device=like.device)
    return factor[(None,) * (4 - factor.dim())]


def _apply(func: Any, _types: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
    found = _RULES.get(func)
    if found is not None:
        return found(*args, **(kwargs or {}))
    if func in _ELEMENTWISE:
        return _elementwise(func, *args, **(kwargs or {}))
    raise NotImplementedError(f"no derivative is known here for {getattr(func, '__name__', func)}")


def _elementwise(func: Callable[..., Tensor], x: Dual, *args: Any, **kwargs: Any) -> Dual:
    in_place = any(one is True for one in (*args, *kwargs.values()))  # a limit of 1 is not
    if not isinstance(x, Dual) or in_place:
        raise NotImplementedError("no rule for functions of a parameter, or computed in place")
    with torch.enable_grad():
        given = x.value.detach().requires_grad_()
        value = func(given, *args, **kwargs)
        (slope,) = torch.autograd.grad(value.sum(), given)
    return x.times(slope, value.detach())
