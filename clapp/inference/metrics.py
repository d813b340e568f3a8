"""Measures of the difference between output and target: L2, L1, PSNR, SSIM, and F1 of edges."""

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
        l2: mean squared difference of the unclamped output, as in training.
        l1: mean absolute difference of the unclamped output.
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


class Edges(NamedTuple):
    """How well the edges of a binary target are found, or means over several pictures.

    An output counts as an edge from 0.5 on, and an edge as found within one pixel of it, also
    diagonally, as is usual where edges are one pixel wide (Martin et al. 2004).

    Attributes:
        precision: share of the output's edge pixels that are next to one of the target.
        recall: share of the target's edge pixels that are next to one of the output.
        f1: their harmonic mean.
    """

    precision: float
    recall: float
    f1: float


def edges(output: Plane, target: Plane) -> Edges | None:
    """Compare the edges of an output with a target, float32 (H, W); None: the target is not binary.

    A share is 1 where there are no pixels.
    """
    if target.ndim != 2 or not np.isin(target, (0, 1)).all():
        return None
    found, wanted = output >= 0.5, target == 1
    precision, recall = _share_near(found, wanted), _share_near(wanted, found)
    both = precision + recall
    return Edges(precision, recall, 2 * precision * recall / both if both else 0.0)


def _share_near(pixels: NDArray[np.bool_], others: NDArray[np.bool_]) -> float:
    """The share of `pixels` that have one of `others` within one pixel."""
    import cv2

    count = int(pixels.sum())
    near = cv2.dilate(others.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return 1.0 if not count else float((pixels & near).sum() / count)


def mean_edges(found: list[Edges | None]) -> Edges | None:
    """The mean over pictures; None where a target is not binary."""
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    return Edges(*(float(np.mean(column)) for column in zip(*known, strict=True)))


def mean(found: list[Metrics]) -> Metrics:
    """The mean of each measure over pictures."""
    return Metrics(*(float(np.mean(column)) for column in zip(*found, strict=True)))
