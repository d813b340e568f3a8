"""Convolutions trained with more numbers than they have weights: `train.reparam`.

The kernel of a convolution is computed from these numbers, linearly or as a product. The network
itself has the kernels alone at all times: after each step they are computed anew (folded), and the
gradient of a kernel gives those of its numbers by the chain rule. So validation, stored weights,
inheritance and exports see the plain network, and a step costs what it costs without.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

_EXPANSION = 2


class Source(Protocol):
    """The numbers that a kernel is computed from."""

    parameters: list[nn.Parameter]

    def kernel(self) -> Tensor:
        """The kernel (O, I, h, w), differentiable."""
        ...


class Parallel:
    """The sum of three branches, as in RepVGG (Ding et al. 2021) without its normalisation: a
    kernel, a 1x1 convolution, and a scaled identity where inputs and outputs are as many."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        weight = convolution.weight.detach()
        self.main = nn.Parameter(weight.clone())
        self.point = nn.Parameter(torch.zeros_like(weight[:, :, :1, :1]))
        self.parameters = [self.main, self.point]
        height, width = weight.shape[2:]
        self._around = (width // 2, width // 2, height // 2, height // 2)
        self._identity: Tensor | None = None
        if convolution.in_channels == convolution.out_channels:
            inputs = weight.shape[1]
            rows = torch.arange(len(weight), device=weight.device) % inputs
            self._identity = nn.functional.one_hot(rows, inputs)[:, :, None, None].to(weight)
            self.scale = nn.Parameter(torch.zeros_like(weight[:, :1, :1, :1]))
            self.parameters.append(self.scale)

    def kernel(self) -> Tensor:
        """See `Source`."""
        middle: Tensor = self.point
        if self._identity is not None:
            middle = middle + self.scale * self._identity
        return self.main + nn.functional.pad(middle, self._around)


class Expanded:
    """A convolution to twice as many channels and a 1x1 convolution back, without anything between
    (Arora et al. 2018; ExpandNets, Guo et al. 2020). Groups stay apart."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        weight, groups = convolution.weight.detach(), convolution.groups
        self._shape = weight.shape
        first = weight.reshape(groups, len(weight) // groups, -1)
        count = first.shape[1]
        more = (_EXPANSION - 1) * count
        drawn = torch.randn(groups, more, first.shape[2], device=weight.device)
        self.wide = nn.Parameter(torch.cat([first, (drawn * first.std()).to(weight)], 1))
        narrow = torch.eye(count, count + more).to(weight).expand(groups, -1, -1)
        self.narrow = nn.Parameter(narrow.clone())
        self.parameters = [self.wide, self.narrow]

    def kernel(self) -> Tensor:
        """See `Source`."""
        return torch.bmm(self.narrow, self.wide).view(self._shape)


SOURCES: dict[str, Callable[[nn.Conv2d], Source]] = {"parallel": Parallel, "expanded": Expanded}
"""The values of `train.reparam` beside none."""


class Wide:
    """The kernels of a network that are larger than one pixel, and the numbers behind them.

    The network computes the same as before until the first step.

    Attributes:
        parameters: what an optimiser changes: these numbers, and all other parameters.
    """

    def __init__(self, net: nn.Module, how: str) -> None:
        """`how` is one of `SOURCES`."""
        self._weights: list[nn.Parameter] = []
        self._sources: list[Source] = []
        found: dict[int, Source] = {}
        for one in net.modules():
            if isinstance(one, nn.Conv2d) and one.kernel_size != (1, 1):
                found[id(one.weight)] = SOURCES[how](one)
        self.parameters: list[nn.Parameter] = []
        for parameter in net.parameters():
            source = found.get(id(parameter))
            if source is None:
                self.parameters.append(parameter)
                continue
            self._weights.append(parameter)
            self._sources.append(source)
            self.parameters += source.parameters

    def zero_grad(self) -> None:
        """Forget the gradients of the kernels."""
        for weight in self._weights:
            weight.grad = None

    def backward(self) -> None:
        """Add the gradients of the kernels to those of the numbers behind them."""
        pairs = zip(self._weights, self._sources, strict=True)
        known = [(source.kernel(), w.grad) for w, source in pairs if w.grad is not None]
        torch.autograd.backward([k for k, _ in known], [grad for _, grad in known])

    @torch.no_grad()
    def fold(self) -> None:
        """Compute the kernels."""
        for weight, source in zip(self._weights, self._sources, strict=True):
            weight.copy_(source.kernel())
