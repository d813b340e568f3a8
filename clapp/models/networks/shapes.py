"""Pictures padded to a size that halves evenly and cropped back; networks of the shape of a U."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_multiple(x: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W) with sides of a multiple, continued by the last row and column."""
    if multiple == 1:
        return x
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def cropped(x: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns of (B, C, H, W)."""
    return x[..., :height, :width]


def through_u(x: Tensor, down: Iterable[nn.Module], up: Sequence[nn.Module]) -> Tensor:
    """Stages down, each at half the resolution of the one before, and up again.

    On the way up, a stage gets the result of the stage down of its resolution, and the enlarged
    result of the stage below.
    """
    first, *lower = down
    y: Tensor = first(x)
    kept = []
    for stage in lower:
        kept.append(y)
        y = stage(F.avg_pool2d(y, 2))
    for level in reversed(range(len(kept))):
        y = F.interpolate(y, scale_factor=2.0, mode="bilinear")
        y = up[level](torch.cat([kept[level], y], 1))
    return y
