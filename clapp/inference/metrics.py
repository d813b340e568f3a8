"""How far a network's picture is from the filter's: L2, L1, PSNR and SSIM."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
SMALLEST_SIDE = 7
_PERFECT = 1e-10


class Metrics(NamedTuple):
    """Differences between two pictures, or their means over several.

    Attributes:
        l2: mean squared difference, of outputs that are not clamped, as in training.
        l1: mean absolute difference, likewise.
        psnr: peak signal-to-noise ratio in dB of the clamped output; an exact copy counts as 100,
            so that one flat picture does not make a mean infinite.
        ssim: structural similarity of the clamped output (Wang et al., 2004; 7x7 windows).
    """

    l2: float
    l1: float
    psnr: float
    ssim: float


def measure(output: Plane, target: Plane) -> Metrics:
    """Compare an output with its target, float32 (H, W) or (H, W, 3), the target in [0, 1].

    Sides are 7 or more. The structural similarity of colour is the mean of its channels.
    """
    from skimage.metrics import structural_similarity

    difference = output.astype(np.float64) - target
    shown = output.clip(0, 1)
    error = float(np.mean((shown.astype(np.float64) - target) ** 2))
    return Metrics(
        l2=float(np.mean(difference**2)),
        l1=float(np.mean(np.abs(difference))),
        psnr=-10 * math.log10(max(error, _PERFECT)),
        ssim=float(
            structural_similarity(  # type: ignore[no-untyped-call]
                target, shown, data_range=1.0, channel_axis=None if target.ndim == 2 else -1
            )
        ),
    )


def mean(found: list[Metrics]) -> Metrics:
    """The mean of each measure over pictures."""
    return Metrics(*(float(np.mean(column)) for column in zip(*found, strict=True)))
