"""Pictures as tensors, in pieces that suit the processor's caches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pictures = NDArray[np.uint8]

# Bytes of the widest activation of one chunk. Measured on a core with 1 MiB of L2, networks 2 to 16
# channels wide: smaller chunks pay for the calls (1 MiB: 10 % more time); with larger ones the C
# library returns memory to the system and asks for it again at every step (4 MiB: at times 30 %
# more time, 32 MiB: twice the time or worse). A GPU wants large pieces.
_CHUNK_BYTES = {"cpu": 2 << 20}
_GPU_CHUNK_BYTES = 256 << 20


def chunks(pictures: Pictures | Tensor, channels: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover a batch, for a network at most `channels` wide.

    Pictures are an array (B, H, W, 3) or a tensor (B, 3, H, W).
    """
    count, *sides = pictures.shape
    height, width = sides[1:] if isinstance(pictures, Tensor) else sides[:2]
    budget = _CHUNK_BYTES.get(device.type, _GPU_CHUNK_BYTES)
    size = max(1, budget // (4 * channels * height * width))
    return (slice(start, start + size) for start in range(0, count, size))


def input_tensor(images: Pictures | Tensor, device: torch.device) -> Tensor:
    """Images (B, H, W, 3) as a float tensor (B, 3, H, W) in [0, 1].

    On a processor the result is contiguous, as the compiled convolutions need it; torch's own
    operations on few channels were measured 1.4 times as fast that way. On other devices the memory
    layout stays, as torch's channels_last, which needs no copy.
    """
    x = torch.as_tensor(images, device=device).permute(0, 3, 1, 2)
    order = torch.contiguous_format if device.type == "cpu" else torch.channels_last
    return x.to(torch.float32, memory_format=order).div_(255)


def target_tensor(targets: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Targets (B, H, W) or (B, H, W, 3), uint8 or floats in [0, 1], as a float tensor (B, C, H, W).

    C is 1 or 3, and values are in [0, 1].
    """
    y = torch.as_tensor(targets, device=device)
    y = y.unsqueeze(1) if y.dim() == 3 else y.permute(0, 3, 1, 2)
    if y.dtype == torch.uint8:
        return y.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return y.float().contiguous()
