"""Losses of neighbourhoods and whole pictures, and of binary targets: not sums of pixels' errors.

Levenberg-Marquardt needs such a sum, so `train.optimizer: auto` trains these with Adam.
"""

from typing import TYPE_CHECKING

from clapp.training.losses.registry import register_loss

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
"""Side of the window of SSIM, in pixels; smaller in smaller pictures."""
SCALES = 5
"""Scales of MS-SSIM, each half of the one before."""
FOCUS = 2.0
"""Exponent of the focal loss."""
_LEAST = 1e-4
# The library's own advice against negative terms, whose roots have no gradient.
_STABLE = (0.01, 0.4)
_PACKAGE = "pytorch_msssim"


@register_loss("ssim", residual=False, words="SSIM", least=3, package=_PACKAGE)
def ssim(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """1 minus the structural similarity (Wang et al. 2004), by pytorch-msssim."""
    from pytorch_msssim import ssim as similarity  # type: ignore[import-untyped]

    side = min(prediction.shape[-2:])
    window = min(WINDOW, side - (side + 1) % 2)  # odd
    value: Tensor = similarity(prediction, target, data_range=1.0, win_size=window)
    return 1 - value


@register_loss("ms_ssim", residual=False, words="MS-SSIM", least=33, package=_PACKAGE)
def ms_ssim(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """1 minus the similarity at 5 scales (Wang et al. 2003), by pytorch-msssim.

    The window is as large as the picture allows, up to 11 pixels from 161 pixels on. An output that
    is the target's negative has no gradient, so add L1 or L2.
    """
    from pytorch_msssim import ms_ssim as similarity

    most = (min(prediction.shape[-2:]) - 1) // 2 ** (SCALES - 1) + 1
    window = min(WINDOW, most - (most + 1) % 2)
    value: Tensor = similarity(prediction, target, data_range=1.0, win_size=window, K=_STABLE)
    return 1 - value


@register_loss("gradient", residual=False, words="gradient", least=2)
def gradient(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean absolute error of the differences between neighbours, across and down.

    It does not see a constant offset; add L1 or L2 to it.
    """
    error = prediction - target
    across = error[..., 1:] - error[..., :-1]
    down = error[..., 1:, :] - error[..., :-1, :]
    return across.abs().mean() + down.abs().mean()


@register_loss("focal", residual=False, words="focal")
def focal(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Cross entropy with less weight for what is right already (Lin et al. 2017), of targets 0, 1.

    The output counts as a probability. Its distance from where that has a finite logarithm is
    added, so that there is a gradient back.
    """
    chance = prediction.clamp(_LEAST, 1 - _LEAST)
    edge = (1 - chance) ** FOCUS * chance.log() * target
    rest = chance**FOCUS * (1 - chance).log() * (1 - target)
    outside = (prediction - chance).abs()
    return (outside - edge - rest).mean()


@register_loss("dice", residual=False, words="Dice")
def dice(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """1 minus the overlap of output and target of each picture (Milletari et al. 2016).

    One pixel is added to all areas, so that pictures without edges have a loss too.
    """
    dims = (1, 2, 3)
    both = (prediction * target).sum(dims)
    areas = prediction.square().sum(dims) + target.square().sum(dims)
    return (1 - (2 * both + 1) / (areas + 1)).mean()
