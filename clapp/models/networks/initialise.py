"""Initial weights of a FilterNet without dead units and without vanishing or exploding values.

Torch's random weights are changed in two ways.

For pictures: one channel starts as brightness (all colours have weights of one sign), and the k x k
kernels start with mean zero, so that they respond to changes. Measured after 800 steps, median
of 5 or 6 seeds: 59 parameters (square, root) learning `sobel_3`, L2 0.0069 without and 0.0004 with;
113 parameters 0.0021 and 0.0002; 2 relu channels learning `random_41`, which is no edge filter,
0.0026 and 0.0006. Networks with group normalisation did as well without it.

By data, as in section 3 of Salimans & Kingma 2016, "Weight Normalization": on a fixed batch of
smooth noise each channel gets mean 0 and largest magnitude 1. (Their variance of 1 lets a chain of
squares explode, and trained worse.) Without this, a rectifier may get only negative values and
never learn.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clapp.config import FilterNetConfig


class Layered(Protocol):
    """A network that can be given initial weights."""

    config: FilterNetConfig
    min_size: int
    prep: nn.Module
    main: nn.ModuleList
    post: nn.Module

    def features(self, x: Tensor) -> Tensor:
        """The input of the head for pictures (B, C, H, W)."""
        ...

    def apply(self, function: Callable[[nn.Module], None]) -> object:
        """Call `function` with every module inside."""
        ...


_PICTURES, _SIDE, _CONTRAST = 8, 32, 2.0
# Share of the values that start below zero before a final rectifier, which must not be dead.
_NEGATIVE = 0.02
# While the features vary less than this over the pixels, larger weights are drawn again: a block
# that is applied repeatedly may shrink its input each time.
_ALIVE = 1e-2
_NOISE = 0.3  # share of torch's random kernels that is added to the identity
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
        net.features(noise)  # this call runs the hooks of _standardise
        features = net.features(noise)
        if features.std() > _ALIVE:
            break
        net.apply(_draw_again)
    if isinstance(net.post, nn.Conv2d):
        if net.config.output_activation in ("relu", "sqrt", "clip"):
            _wake(net.post, features)
        elif net.config.output_activation == "sigmoid":
            before_sigmoid(net.post.weight, net.post.bias)


@torch.no_grad()
def standardise(net: nn.Module, channels: int, layers: Sequence[nn.Module]) -> None:
    """Initialise a network of many layers near the identity, as in Chen et al. 2017.

    All convolutions but the first begin as the identity plus a little noise, so that channels
    differ. Each is then scaled and shifted to outputs in [-1, 1] with mean 0. Measured after 300
    steps of Adam (family `can`, 4 channels, `sobel_3`): L2 0.015. With torch's own weights it is
    0.038, the loss of predicting the mean.

    Args:
        net: newly constructed.
        channels: channels of its input.
    """
    if any(parameter.is_meta for parameter in net.parameters()):
        return
    found = [m for layer in layers for m in layer.modules() if isinstance(m, nn.Conv2d)]
    for number, convolution in enumerate(found):
        if number:
            _near_identity(convolution)
        _standardise(convolution, 1)
    net(smooth_noise(channels, _SIDE))  # this call runs the hooks of _standardise


def before_sigmoid(weight: Tensor, bias: Tensor | None) -> None:
    """Change a linear layer in place whose result y is followed by a sigmoid from now on.

    It makes 4 (y - 0.5) of y: the sigmoid of that has the value and the slope of y at 0.5.
    """
    weight.mul_(4)
    if bias is not None:
        bias.sub_(0.5).mul_(4)


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
    """Scale the last convolution of `layer` to outputs in [-scale, scale], at the next forward
    pass."""
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
    """Choose sign and offset of `post` so that the rectifier or root after it is not dead.

    Nearly all values become positive, and few of them large, as in a picture of edges.
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
