"""Losses of neighbourhoods, of whole pictures and of binary targets.

They are no sums over the errors of single pixels, which Levenberg-Marquardt needs, so
`train.optimizer: auto` minimises them with Adam.
"""

from typing import TYPE_CHECKING

from clapp.training.losses.registry import register_loss

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
"""Side of the window of SSIM, in pixels; pictures smaller than that get a smaller window."""
SCALES = 5
"""Scales of MS-SSIM, each half of the one before."""
FOCUS = 2.0
"""Exponent of the focal loss."""
_LEAST = 1e-4
# As the library advises: roots of negative terms would have no gradient.
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

    The window has 11 pixels for pictures from 161 pixels on, and is smaller for smaller ones. There
    is no gradient where the output is the negative of the target, so add L1 or L2 to this loss.
    """
    from pytorch_msssim import ms_ssim as similarity

    most = (min(prediction.shape[-2:]) - 1) // 2 ** (SCALES - 1) + 1
    window = min(WINDOW, most - (most + 1) % 2)
    value: Tensor = similarity(prediction, target, data_range=1.0, win_size=window, K=_STABLE)
    return 1 - value


@register_loss("gradient", residual=False, words="gradient", least=2)
def gradient(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Mean absolute error of the differences between neighbours, across and down.

    A constant offset does not change it, so add L1 or L2 to it.
    """
    error = prediction - target
    across = error[..., 1:] - error[..., :-1]
    down = error[..., 1:, :] - error[..., :-1, :]
    return across.abs().mean() + down.abs().mean()


@register_loss("focal", residual=False, words="focal")
def focal(prediction: "Tensor", target: "Tensor") -> "Tensor":
    """Cross entropy with less weight on easy pixels (Lin et al. 2017), for targets of 0 and 1.

    The output is read as a probability and clamped to where its logarithm is finite. The distance
    by which it was clamped is added to the loss, so that the gradient leads back.
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
