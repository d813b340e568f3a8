"""Convolutions that train fast on a processor when they have few channels.

oneDNN, which torch uses there, is made for many channels: with 1 to 8 it reaches 2 to 50 GFLOP/s,
and its gradients are slower still. `clapp.models.fast_conv.compiled` replaces it in training. What
that brings stands in docs/training.md.

A network consists of `torch.nn.Conv2d`. Only our own training steps compute otherwise, inside
`fast_convolutions`: the compiled code knows first derivatives and nothing else, so it would break
`torch.compile`, `torch.export`, `torch.func` and second derivatives of a loaded network.
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

from clapp.system.progress import tell_if_slow

SIZES = (1, 3, 5, 7)
PADDING = ("zeros", "reflect", "replicate")


@contextmanager
def fast_convolutions(net: nn.Module) -> Iterator[None]:
    """In the block, `net` computes its convolutions by compiled code where that is possible.

    Elsewhere (GPUs, other precisions, large strides) and where Numba cannot be imported, torch
    computes them; results differ by rounding. First derivatives can be had, by `backward`, but no
    second ones. After the block every layer is a plain `torch.nn.Conv2d` again.
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
    """Whether Numba can be imported. If not, the log says once what that costs."""
    try:
        import clapp.models.fast_conv.compiled  # noqa: F401 - takes 0.3 s: only here
    except Exception as error:  # an unfit NumPy shows as ImportError, AttributeError, SystemError
        logger.warning(
            f"Numba cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}): "
            "torch computes the convolutions, and training takes longer"
        )
        return False
    return True


class _FastConv2d(nn.Conv2d):
    """What a `torch.nn.Conv2d` is in `fast_convolutions`.

    Its result is contiguous (B, C, H, W), never channels-last, which would be copied.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        if not self._is_fast(input):
            return cast(Tensor, super()._conv_forward(input, weight, bias))
        if bias is None:
            bias = weight.new_zeros(len(weight))
        how = int(self.padding[0]), PADDING.index(self.padding_mode)
        return cast(Tensor, _Convolution.apply(input, weight, bias, *how))  # type: ignore[no-untyped-call]

    def _is_fast(self, x: Tensor) -> bool:
        # The compiled code checks nothing. What does not fit, torch does, or says what is wrong.
        size = self.kernel_size[0]
        return (
            x.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and x.dtype == self.weight.dtype == torch.float32
            and x.dim() == 4
            and x.shape[1] == self.in_channels
            and min(x.shape[2:]) >= size
            and size in SIZES
            and self.kernel_size == (size, size)
            and self.padding in ((0, 0), (size // 2, size // 2))
            and self.padding_mode in PADDING
            and self.stride == self.dilation == (1, 1)
        )


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
    # Its first call in this process: loaded in a moment where an earlier process has stored it.
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
