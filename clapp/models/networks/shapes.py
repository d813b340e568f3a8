"""Pictures padded to a size that halves evenly, and cropped back."""

import torch.nn.functional as F
from torch import Tensor


def to_multiple(x: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W) with sides of a multiple, continued by the last row and column."""
    if multiple == 1:
        return x
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def cropped(x: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns of (B, C, H, W)."""
    return x[..., :height, :width]
