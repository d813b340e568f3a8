"""Statistics of a whole picture, gathered part by part if it does not fit into memory.

A network that needs such statistics computes each in a module of one of the types in `GATHERED`;
the rest of it is local. One pass over the parts for each statistic, and a last pass for the result,
then give the same as a call on the whole picture.
"""

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from threading import Lock, local
from typing import Protocol

import torch
from torch import Tensor, nn

from clapp.models.graph.nodes import MAX_EPS, MOMENT_EPS

Where = tuple[slice, slice]
"""Rows and columns that a part of a picture has in what is computed around it."""


class Moments(nn.Module):
    """Mean, maximum, deviation and third moment of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 4 C, 1, 1).

        Means are taken axis by axis, since ONNX Runtime would sum a whole picture in one float32.
        """
        mean = _mean(x)
        centred = x - mean
        deviation = (_mean(centred.square()) + MOMENT_EPS).sqrt()
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
        """Take in a part, (1, C, h, w), from any thread; no pixel is given twice."""
        ...

    def apply(self, x: Tensor) -> Tensor:
        """The module's result for a part, once all parts have been added."""
        ...


class _Sums:
    """Central moments of each channel, from sums of powers in float64, and its maximum.

    The powers are those of distances to the mean of the first part, so that little cancels out.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._origin: Tensor | None = None
        self._count = 0
        self._sums = torch.zeros(3, 1, dtype=torch.float64)
        self.maximum = torch.full((1,), -torch.inf)

    def add(self, x: Tensor) -> None:
        flat = x[0].flatten(1)  # (C, pixels)
        with self._lock:
            if self._origin is None:
                self._origin = flat.mean(1, keepdim=True, dtype=torch.float64)
        distance = flat - self._origin
        power, sums = distance, [distance.sum(1)]
        for _ in range(2):
            power = power * distance
            sums.append(power.sum(1))
        maximum = x.amax((0, 2, 3))
        with self._lock:
            self._sums = self._sums + torch.stack(sums)
            self.maximum = torch.maximum(self.maximum, maximum)
            self._count += flat.shape[1]

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, and second and third central moment, (C,) each."""
        assert self._origin is not None
        mean, square, cube = self._sums / self._count
        variance = (square - mean**2).clamp_min(0)
        return self._origin[:, 0] + mean, variance, cube - 3 * mean * square + 2 * mean**3


class _Moments(_Sums):
    def __init__(self, _: Moments) -> None:
        super().__init__()

    def apply(self, x: Tensor) -> Tensor:
        mean, variance, third = self.moments()
        deviation = (variance + MOMENT_EPS).sqrt()
        skewness = torch.tanh(third / deviation**3)
        values = torch.cat([mean, self.maximum.double(), deviation, skewness])
        return values.to(x.dtype).view(1, -1, 1, 1)


class _GroupNorm(_Sums):
    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def apply(self, x: Tensor) -> Tensor:
        groups, channels = self.norm.num_groups, x.shape[1]
        means, variances, _ = (value.view(groups, -1) for value in self.moments())
        mean = means.mean(1)  # (groups,)
        variance = (variances + (means - mean[:, None]) ** 2).mean(1)
        scale = (variance + self.norm.eps).rsqrt()
        factor, offset = (v.repeat_interleave(channels // groups) for v in (scale, -mean * scale))
        if self.norm.affine:
            factor, offset = factor * self.norm.weight, offset * self.norm.weight + self.norm.bias
        factor, offset = (v.to(x.dtype).view(1, -1, 1, 1) for v in (factor, offset))
        result: Tensor = torch.addcmul(offset, x, factor)
        return result


class _Maximum:
    def __init__(self, _: DividedByMaximum) -> None:
        self._lock = Lock()
        self._maximum = torch.zeros(())

    def add(self, x: Tensor) -> None:
        maximum = torch.maximum(x.max(), -x.min())
        with self._lock:
            self._maximum = torch.maximum(self._maximum, maximum)

    def apply(self, x: Tensor) -> Tensor:
        return x / (self._maximum + MAX_EPS)


GATHERED: dict[type[nn.Module], Callable[..., Statistic]] = {
    nn.GroupNorm: _GroupNorm,
    Moments: _Moments,
    DividedByMaximum: _Maximum,
}
"""Types of modules that need the whole picture -> the class that gathers their statistic."""


class _SeenError(Exception):
    """Raised to end a call of the network once the statistic being gathered has the part."""


class Gathering:
    """A copy of a network that is applied to the parts of one picture as to the whole.

    Parts may be computed by several threads at once.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = deepcopy(net)
        self._known: list[Statistic] = []  # in the order of the calls
        self._next: Statistic | None = None  # the one that is being gathered
        self._lock = Lock()
        self._here = local()  # of a thread: how many statistics its part has met, and where it lies
        for module in self._net.modules():
            if type(module) in GATHERED:
                module.forward = partial(self._step, module)

    def gather(self, show: Callable[[Callable[[Tensor, Where], None]], None]) -> None:
        """See the whole picture as often as the network has statistics.

        Args:
            show: calls its argument for all parts, which together have each pixel once.
        """
        for _ in range(self._count()):
            self._known.append(self._gathered(show))

    def _gathered(self, show: Callable[[Callable[[Tensor, Where], None]], None]) -> Statistic:
        """The first statistic that is not known."""
        self._next = None
        show(self._see)
        found: Statistic | None = self._next
        if found is None:
            raise ValueError("no part of the picture was shown")
        return found

    def _count(self) -> int:
        """How often the network asks for a statistic, whatever the picture."""
        self._here.counted = 0
        side = int(getattr(self._net, "min_size", 1))
        with torch.no_grad():
            config = getattr(self._net, "config", None)
            inputs = 3 if config is None else int(config.input_channels)
            self._net(torch.zeros(1, inputs, side, side))
        count = int(self._here.counted)
        del self._here.counted
        return count

    def _see(self, x: Tensor, where: Where) -> None:
        with suppress(_SeenError):
            self(x, where)

    @torch.no_grad()
    def __call__(self, x: Tensor, where: Where) -> Tensor:
        """The network's output for a part and the pixels around it."""
        self._here.calls, self._here.where = 0, where
        self._here.side = (x.shape[-2], x.shape[-1])
        result: Tensor = self._net(x)
        return result

    def _step(self, module: nn.Module, x: Tensor) -> Tensor:
        here = self._here
        if hasattr(here, "counted"):
            here.counted += 1
            plain: Tensor = type(module).forward(module, x)
            return plain
        number = here.calls
        here.calls += 1
        if number < len(self._known):
            known: Tensor = self._known[number].apply(x)
            return known
        with self._lock:
            gathered = self._next = self._next or GATHERED[type(module)](module)
        rows, columns = (
            _coarser(part, -(-side // size))
            for part, side, size in zip(here.where, here.side, x.shape[-2:], strict=True)
        )
        gathered.add(x[..., rows, columns])
        raise _SeenError


def _coarser(part: slice, factor: int) -> slice:
    """The place of a part at a resolution lower by `factor`; the last pixel may cover fewer."""
    return slice(part.start // factor, -(-part.stop // factor))


def _mean(x: Tensor) -> Tensor:
    return x.mean(3, keepdim=True).mean(2, keepdim=True)
