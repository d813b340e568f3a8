"""Convolutions that train fast on a processor when they have few channels.

On processors torch uses oneDNN, which is made for many channels: with 1 to 8 it reaches 2 to 50
GFLOP/s, and its gradients are slower still. `clapp.models.fast_conv.compiled` replaces it in
training; docs/training.md has measurements.

Networks consist of `torch.nn.Conv2d`. The compiled code is used only in training steps, inside
`fast_convolutions`: it supports first derivatives and nothing else, so in a loaded network it would
break `torch.compile`, `torch.export`, `torch.func` and second derivatives.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from loguru import logger
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from clapp.models.fast_conv.kinds import PADDING, is_fast
from clapp.system.progress import tell_if_slow


@contextmanager
def fast_convolutions(net: nn.Module) -> Iterator[None]:
    """Let `net` use compiled convolutions inside the block, where that is possible.

    Otherwise (GPUs, other precisions, strides, or if Numba cannot be imported) torch computes them;
    results differ by rounding. `backward` gives first derivatives; there are no second ones. After
    the block every layer is a plain `torch.nn.Conv2d` again.
    """
    layers = [layer for layer in net.modules() if type(layer) is nn.Conv2d]
    on_processor = bool(layers) and layers[0].weight.device.type == "cpu"
    if not (on_processor and is_available()):
        yield
        return
    for layer in layers:
        layer.__class__ = _FastConv2d
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Conv2d


@cache
def is_available() -> bool:
    """Whether Numba can be imported. If not, a warning is logged once."""
    try:
        import clapp.models.fast_conv.compiled  # noqa: F401 - takes 0.3 s: only here
    except (
        Exception
    ) as error:  # a NumPy that does not fit raises ImportError, AttributeError or SystemError
        logger.warning(
            f"Numba cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}): "
            "torch computes the convolutions, and training takes longer"
        )
        return False
    return True


class _FastConv2d(nn.Conv2d):
    """The class of every `torch.nn.Conv2d` inside `fast_convolutions`.

    Its result is contiguous (B, C, H, W), since the next layer would have to copy channels-last.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        if not is_fast(self, input):
            return cast(Tensor, super()._conv_forward(input, weight, bias))
        if bias is None:
            bias = weight.new_zeros(len(weight))
        how = int(self.padding[0]), PADDING.index(self.padding_mode)
        return cast(Tensor, _Convolution.apply(input, weight, bias, *how))  # type: ignore[no-untyped-call]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, border: int, mode: int
    ) -> Tensor:
        from clapp.models.fast_conv.compiled import forward

        x, weight, size = x.contiguous(), weight.contiguous(), weight.shape[3]
        ctx.save_for_backward(x, weight)
        ctx.border, ctx.mode, ctx.groups = border, mode, x.shape[1] // weight.shape[1]
        less = size - 1 - 2 * border
        y = x.new_empty(len(x), len(weight), x.shape[2] - less, x.shape[3] - less)
        pictures, result = (_pictures(t, ctx.groups) for t in (x, y))
        weights, biases = (_by_group(t, ctx.groups) for t in (weight, bias))
        _call(forward[size], pictures, weights, biases, border, mode, result, (0,) * size)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        from clapp.models.fast_conv.compiled import backward

        x, weight = ctx.saved_tensors
        wanted, size = ctx.needs_input_grad[0], weight.shape[3]
        gx = x.new_empty(x.shape if wanted else (0, *x.shape[1:]))
        gw, gb = weight.new_zeros(weight.shape), weight.new_zeros(len(weight))
        pictures, gys, gxs = (_pictures(t, ctx.groups) for t in (x, gy.contiguous(), gx))
        weights, gws, gbs = (_by_group(t, ctx.groups) for t in (weight, gw, gb))
        flipped = np.ascontiguousarray(weights[..., ::-1, ::-1].swapaxes(1, 2))
        how = ctx.border, ctx.mode
        _call(backward[size], pictures, flipped, gys, *how, gxs, gws, gbs, (0,) * size)
        return gx if wanted else None, gw, gb, None, None


def _call(compiled: Any, *arguments: Any) -> None:
    if compiled.signatures:
        compiled(*arguments)
        return
    # The first call in this process compiles, or loads the code that an earlier process has stored.
    size = len(arguments[-1])
    with tell_if_slow(f"compiling convolutions of {size}x{size}, once on this machine"):
        compiled(*arguments)


def _pictures(x: Tensor, groups: int) -> Any:
    """The array of x (B, C, H, W) with each group's channels as a picture: (B G, C / G, H, W)."""
    count, channels, height, width = x.shape
    return x.detach().numpy().reshape(count * groups, channels // groups, height, width)


def _by_group(x: Tensor, groups: int) -> Any:
    """The array of x (O, ...) as (G, O / G, ...)."""
    return x.detach().numpy().reshape(groups, len(x) // groups, *x.shape[1:])
