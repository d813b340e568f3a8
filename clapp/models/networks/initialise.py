"""First weights of a FilterNet: no unit dead, nothing vanishing or exploding.

Torch's random weights are changed in two ways.

Towards pictures: one channel starts as a brightness (colours weighted alike in sign), and the
k x k kernels start without a mean, so that they answer to change. Measured after 800 steps, median
of 5 or 6 seeds: 59 parameters (square, root) learning `sobel_3`, L2 0.0069 without and 0.0004 with;
113 parameters 0.0021 and 0.0002; 2 relu channels learning `random_41`, which is no edge filter,
0.0026 and 0.0006. Networks with group normalisation neither gained nor lost.

To the data, in the manner of section 3 of Salimans & Kingma 2016, "Weight Normalization": on a
fixed batch of smooth noise each channel gets mean 0, and 1 as its largest magnitude (their variance
of 1 lets a chain of squares explode, and trained worse). Without it a rectifier may see only
negative values and never learn.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clapp.config import FilterNetConfig


class Layered(Protocol):
    """What first weights are given to."""

    config: FilterNetConfig
    min_size: int
    prep: nn.Module
    main: nn.ModuleList
    post: nn.Module

    def features(self, x: Tensor) -> Tensor:
        """What the head sees of pictures (B, C, H, W)."""
        ...

    def apply(self, function: Callable[[nn.Module], None]) -> object:
        """Call `function` with every module inside."""
        ...


_PICTURES, _SIDE, _CONTRAST = 8, 32, 2.0
_NEGATIVE = 0.02  # share of the output's values that start below zero where it must not be dead
# While the features differ less than this from pixel to pixel, weights are drawn again, and larger:
# a block applied again and again may shrink what it is given.
_ALIVE = 1e-2
_NOISE = 0.3  # of torch's random kernels, beside the identity
_SCALES = (1, 1, 2, 2, 4, 4, 8, 8)


@torch.no_grad()
def initialise(net: Layered) -> None:
    """Give a newly constructed network its first weights."""
    noise = smooth_noise(net.config.input_channels, max(_SIDE, net.min_size))
    for scale in _SCALES:
        if isinstance(net.prep, nn.Conv2d):
            net.prep.weight[0].abs_()
        net.main.apply(_without_mean)
        for layer in (net.prep, *net.main):
            _standardise(layer, scale)
        net.features(noise)  # the hooks of _standardise do their work here
        features = net.features(noise)
        if features.std() > _ALIVE:
            break
        net.apply(_draw_again)
    if net.config.output_activation != "none" and isinstance(net.post, nn.Conv2d):
        _wake(net.post, features)


@torch.no_grad()
def standardise(net: nn.Module, channels: int, layers: Sequence[nn.Module]) -> None:
    """First weights of a network of many layers: near the identity, as in Chen et al. 2017.

    All convolutions but the first begin as what passes its input on, and a little noise, so that
    all channels differ. Then each gets outputs in [-1, 1] whose mean is 0. Measured after 300 steps
    of Adam (family `can`, 4 channels, `sobel_3`): L2 0.015 instead of 0.038, which is that of the
    mean, with torch's own weights.

    Args:
        net: newly constructed.
        channels: of its pictures.
    """
    if any(parameter.is_meta for parameter in net.parameters()):
        return
    found = [m for layer in layers for m in layer.modules() if isinstance(m, nn.Conv2d)]
    for number, convolution in enumerate(found):
        if number:
            _near_identity(convolution)
        _standardise(convolution, 1)
    net(smooth_noise(channels, _SIDE))  # the hooks of _standardise do their work here


def _near_identity(convolution: nn.Conv2d) -> None:
    weight = convolution.weight
    weight.mul_(_NOISE)
    row, column = weight.shape[2] // 2, weight.shape[3] // 2
    for channel in range(min(weight.shape[:2])):
        weight[channel, channel, row, column] += 1


def _draw_again(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        module.reset_parameters()


def _without_mean(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
        module.weight.sub_(module.weight.mean((2, 3), keepdim=True))


def _standardise(layer: nn.Module, scale: float) -> None:
    """Let the next forward pass give the last convolution of `layer` outputs in [-scale, scale]."""
    convolutions = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        return
    convolution = convolutions[-1]

    def rescale(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        hook.remove()
        mean = output.mean((0, 2, 3))
        if convolution.bias is None:
            mean = torch.zeros_like(mean)
        centred = output - mean.view(1, -1, 1, 1)
        factor = scale / centred.abs().amax((0, 2, 3)).clamp_min(1e-6)
        convolution.weight.mul_(factor.view(-1, 1, 1, 1))
        if convolution.bias is not None:
            convolution.bias.sub_(mean).mul_(factor)
        return centred * factor.view(1, -1, 1, 1)

    hook = convolution.register_forward_hook(rescale)


def _wake(post: nn.Conv2d, features: Tensor) -> None:
    """Choose sign and offset of `post` so that a rectifier or a root after it lives.

    Bright values become the rare ones, as in a picture of edges, and nearly all are positive.
    """
    values = post(features).transpose(0, 1).flatten(1)  # (Cout, B * H * W)
    tail = values.mean(1) - values.median(1).values
    sign = torch.where(tail < 0, -1.0, 1.0)
    post.weight.mul_(sign.view(-1, 1, 1, 1))
    if post.bias is not None:
        post.bias.mul_(sign).sub_(torch.quantile(values * sign.view(-1, 1), _NEGATIVE, dim=1))


@cache
def smooth_noise(channels: int, side: int = _SIDE) -> Tensor:
    """Fixed pictures with the statistics of photographs, roughly: (B, channels, side, side).

    Amplitudes fall with frequency, and channels differ less than pixels do. Torch's global random
    state is neither read nor changed.
    """
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(_PICTURES, channels, side, side)
    for cells in (1, 2, 4, 8, 16, 32):
        shared = torch.randn(_PICTURES, 1, cells, cells, generator=generator)
        own = torch.randn(_PICTURES, channels, cells, cells, generator=generator)
        octave = F.interpolate(shared + 0.3 * own, (side, side), mode="bilinear")
        total += octave / cells**0.5
    return (_CONTRAST * total).sigmoid()
