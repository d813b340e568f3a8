"""Which convolutions the compiled code computes."""

import torch
from torch import Tensor, nn

SIZES = (1, 3, 5, 7)
"""Heights of kernels, which are square."""
PADDING = ("zeros", "reflect", "replicate")


def is_fast(layer: nn.Conv2d, x: Tensor) -> bool:
    """Whether the compiled code can apply `layer` to `x`, (B, C, H, W).

    The compiled code checks nothing. Torch computes what it cannot, or says what is wrong.
    """
    size = layer.kernel_size[0]
    return (
        x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and x.dtype == layer.weight.dtype == torch.float32
        and x.dim() == 4
        and x.shape[1] == layer.in_channels
        and min(x.shape[2:]) >= size
        and size in SIZES
        and layer.kernel_size == (size, size)
        and layer.padding in ((0, 0), (size // 2, size // 2))
        and layer.padding_mode in PADDING
        and layer.stride == layer.dilation == (1, 1)
    )
