"""Statistics of a whole picture, gathered part by part if it does not fit into memory.

A network that needs such statistics computes each in a module of one of the types in `GATHERED`;
the rest of it is local. One pass over the parts for each statistic, and a last pass for the result,
then give the same as a call on the whole picture.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from clapp.models.graph.nodes import MAX_EPS

_EPS = 1e-5
Part = tuple[Tensor, tuple[slice, slice]]
"""Pixels around a part of a picture, float32 (1, C, h, w), and the place of the part in them."""


class Moments(nn.Module):
    """Mean, maximum, deviation and third moment of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 4 C, 1, 1).

        Means are taken axis by axis, since ONNX Runtime would sum a whole picture in one float32.
        """
        mean = _mean(x)
        centred = x - mean
        deviation = (_mean(centred.square()) + _EPS).sqrt()
        skewness = _mean((centred / deviation) ** 3)
        return torch.cat([mean, x.amax((2, 3), keepdim=True), deviation, torch.tanh(skewness)], 1)


class DividedByMaximum(nn.Module):
    """Divides pictures by their largest magnitude, as the last step of a network."""

    def forward(self, y: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        # The maximum of magnitudes: the maximum of negative pictures may be near zero.
        return y / (torch.amax(torch.abs(y), (1, 2, 3), keepdim=True) + MAX_EPS)


class Statistic(Protocol):
    """A statistic of a picture that arrives in parts."""

    def add(self, x: Tensor) -> None:
        """Add a part, (1, C, h, w); no pixel may be added twice."""
        ...

    def apply(self, x: Tensor) -> Tensor:
        """The module's result for a part, once all parts have been added."""
        ...


class _Sums:
    """Sums of the first three powers of each channel in float64, and its maximum."""

    def __init__(self) -> None:
        self.count = 0
        self.sums = torch.zeros(3, 1, dtype=torch.float64)
        self.maximum = torch.full((1,), -torch.inf)

    def add(self, x: Tensor) -> None:
        flat = x[0].flatten(1).double()  # (C, pixels)
        power, sums = flat, []
        for _ in range(3):
            sums.append(power.sum(1))
            power = power * flat
        self.sums = self.sums + torch.stack(sums)
        self.maximum = torch.maximum(self.maximum, x.amax((0, 2, 3)))
        self.count += flat.shape[1]


class _Moments(_Sums):
    def __init__(self, _: Moments) -> None:
        super().__init__()

    def apply(self, x: Tensor) -> Tensor:
        mean, square, cube = self.sums / self.count  # (C,) each
        deviation = ((square - mean**2).clamp_min(0) + _EPS).sqrt()
        skewness = (cube - 3 * mean * square + 2 * mean**3) / deviation**3
        values = torch.cat([mean, self.maximum.double(), deviation, torch.tanh(skewness)])
        return values.to(x.dtype).view(1, -1, 1, 1)


class _GroupNorm(_Sums):
    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def apply(self, x: Tensor) -> Tensor:
        groups, channels = self.norm.num_groups, x.shape[1]
        mean, square = (self.sums[:2] / self.count).view(2, groups, -1).mean(2)  # (groups,) each
        scale = ((square - mean**2).clamp_min(0) + self.norm.eps).rsqrt()
        factor, offset = (v.repeat_interleave(channels // groups) for v in (scale, -mean * scale))
        if self.norm.affine:
            factor, offset = factor * self.norm.weight, offset * self.norm.weight + self.norm.bias
        factor, offset = (v.to(x.dtype).view(1, -1, 1, 1) for v in (factor, offset))
        result: Tensor = x * factor + offset
        return result


class _Maximum:
    def __init__(self, _: DividedByMaximum) -> None:
        self.maximum = torch.zeros(())

    def add(self, x: Tensor) -> None:
        self.maximum = torch.maximum(self.maximum, x.abs().max())

    def apply(self, x: Tensor) -> Tensor:
        return x / (self.maximum + MAX_EPS)


GATHERED: dict[type[nn.Module], Callable[..., Statistic]] = {
    nn.GroupNorm: _GroupNorm,
    Moments: _Moments,
    DividedByMaximum: _Maximum,
}
"""Types of modules that need the whole picture -> the class that gathers their statistic."""


class _SeenError(Exception):
    """Raised to end a call of the network once the statistic being gathered has the part."""


class Gathering:
    """Applies a network to the parts of one picture with the result for the whole.

    Inside the `with` block, the modules of `GATHERED` in the network use the gathered statistics.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._modules = [m for m in net.modules() if type(m) in GATHERED]
        self._known: list[Statistic] = []  # in the order of the calls
        self._next: Statistic | None = None
        self._calls = 0
        self._where = (slice(None), slice(None))
        self._side = (0, 0)

    def __enter__(self) -> "Gathering":
        for module in self._modules:
            module.forward = partial(self._step, module)
        return self

    def __exit__(self, *_: object) -> None:
        for module in self._modules:
            del module.forward

    def gather(self, parts: Callable[[], Iterable[Part]]) -> None:
        """Gather all statistics, with one pass over the picture for each.

        Args:
            parts: returns the parts of the picture, which contain each pixel once.
        """
        while self._modules and self._pass(parts()):
            assert self._next is not None
            self._known.append(self._next)

    def _pass(self, parts: Iterable[Part]) -> bool:
        """Gather the first missing statistic; returns False if none is missing."""
        self._next = None
        for x, where in parts:
            try:
                self(x, where)
            except _SeenError:
                continue
            return False
        return True

    @torch.no_grad()
    def __call__(self, x: Tensor, where: tuple[slice, slice]) -> Tensor:
        """The network's output for a part and the pixels around it."""
        self._calls, self._where, self._side = 0, where, (x.shape[-2], x.shape[-1])
        result: Tensor = self._net(x)
        return result

    def _step(self, module: nn.Module, x: Tensor) -> Tensor:
        number = self._calls
        self._calls += 1
        if number < len(self._known):
            return self._known[number].apply(x)
        if self._next is None:
            self._next = GATHERED[type(module)](module)
        rows, columns = (
            _coarser(part, -(-side // size))
            for part, side, size in zip(self._where, self._side, x.shape[-2:], strict=True)
        )
        self._next.add(x[..., rows, columns])
        raise _SeenError


def _coarser(part: slice, factor: int) -> slice:
    """The place of a part at a resolution lower by `factor`; the last pixel may cover fewer."""
    return slice(part.start // factor, -(-part.stop // factor))


def _mean(x: Tensor) -> Tensor:
    return x.mean(3, keepdim=True).mean(2, keepdim=True)
