"""Weights to start from: no unit dead, no value vanishing or exploding, whatever the architecture.

Torch's random weights keep their directions; scale and offset of each convolution are then set from
data, as in section 3 of Salimans & Kingma 2016, "Weight Normalization": on a fixed batch of smooth
noise every channel gets mean 0 and variance 1. Without it a rectifier may see only negative values
and never learn, and a chain of squares vanishes or overflows.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PICTURES, _SIDE, _CONTRAST = 8, 32, 2.0
_NEGATIVE = 0.02  # share of the output's values that start below zero where it must not be dead


def standardise(layer: nn.Module) -> None:
    """Make the next forward pass give `layer` outputs of mean 0 and variance 1 per channel.

    Args:
        layer: a convolution, or a module whose last convolution sets its scale and offset.
    """
    convolution = [m for m in layer.modules() if isinstance(m, nn.Conv2d)][-1]

    def rescale(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        hook.remove()
        deviation, mean = torch.std_mean(output, (0, 2, 3))
        factor = 1 / deviation.clamp_min(1e-6)
        convolution.weight.mul_(factor.view(-1, 1, 1, 1))
        assert convolution.bias is not None  # only depthwise convolutions have none
        convolution.bias.sub_(mean).mul_(factor)
        return (output - mean.view(1, -1, 1, 1)) * factor.view(1, -1, 1, 1)

    hook = convolution.register_forward_hook(rescale)


def wake(post: nn.Conv2d, features: Tensor) -> None:
    """Choose sign and offset of `post` so that a rectifier or a root after it lives.

    Bright values become the rare ones, as in a picture of edges, and nearly all are positive.

    Args:
        features: (B, C, H, W), the input of `post`.
    """
    values = post(features).transpose(0, 1).flatten(1)  # (Cout, B * H * W)
    tail = values.mean(1) - values.median(1).values
    sign = torch.where(tail < 0, -1.0, 1.0)
    post.weight.mul_(sign.view(-1, 1, 1, 1))
    assert post.bias is not None
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
