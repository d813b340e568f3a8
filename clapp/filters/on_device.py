"""Classical filters for batches of pictures on a device; results equal OpenCV's grey levels.

`sobel_3`, inline kernels, morphology and operations of single pixels are exact. The random kernels
are exact except in the last two columns of widths that do not fill OpenCV's vectors: there a
response may be an ulp off before it is truncated.

Every response is an explicit sum of shifted pictures: in integers, or in float32 in the order in
which OpenCV adds. A convolution would be shorter, but on a GPU it may round its inputs to TF32, and
it adds in another order. Nothing is divided by a Python number, because CUDA would multiply by its
reciprocal, which rounds differently.
"""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clapp.filters.base import CHANNELS, COLOUR, EPSILON, LUMA, FilterSpec
from clapp.filters.library import as_entry
from clapp.filters.linear import inline_kernel
from clapp.filters.morphology import SHAPES
from clapp.filters.random_kernels import KERNEL_15, KERNEL_41, KERNEL_51, Weights
from clapp.filters.tone import gamma_table

BatchedFilter = Callable[[Tensor], Tensor]

# From this many weights on, cv2.filter2D uses a Fourier transform for 8-bit pictures, and a sum
# cannot reproduce its rounding.
_FOURIER = 50


def batched(spec: FilterSpec) -> BatchedFilter | None:
    """The filter of `spec` as a function of batches.

    Args:
        spec: as `clapp.filters.library.resolve` takes it.

    Returns:
        A function from pictures, uint8 (B, H, W, 3), to targets, uint8 (B, H, W) or (B, H, W, 3),
        on the device of the pictures, which must support float64. None if there is no exact
        version, as for Canny, users' functions, chains, and inline kernels of 50 weights or more.

    Raises:
        ConfigError: a mapping that is not a kernel.
    """
    if isinstance(spec, Mapping) and "name" not in spec:
        kernel, mode = inline_kernel(spec)
        finish = _NORMALISERS[mode]
        height, width = kernel.shape[-2:]
        if height * width >= _FOURIER:
            return None
        return lambda pictures: finish(_correlate(pictures, kernel))
    if isinstance(spec, str) and spec in _NAMED:
        return _NAMED[spec]
    entry, values = as_entry(spec)
    if entry is None or entry.name not in _WITH_PARAMETERS:
        return None
    function, takes = _WITH_PARAMETERS[entry.name], entry.facts(values).takes
    arguments = {key: value for key, value in values.items() if key != CHANNELS}

    def call(pictures: Tensor) -> Tensor:
        return function(pictures if takes == COLOUR else luma(pictures).byte(), **arguments)

    return call


def sobel_3(pictures: Tensor) -> Tensor:
    """See `clapp.filters.edges.sobel_3`."""
    # Blurring a reflected picture gives the reflected blurred picture, so one border of two pixels
    # is enough for blur and derivative.
    grey = _reflected(luma(pictures), (2, 2), (2, 2))  # (B, H + 4, W + 4)
    blurred = (_smooth(_smooth(grey, 1), 2) + 8) >> 4  # OpenCV's fixed point rounds halves up
    dx = _difference(_smooth(blurred, 1), 2).float()  # (B, H, W)
    dy = _difference(_smooth(blurred, 2), 1).float()
    return _over_maximum(_root(dx * dx + dy * dy))


def random_41(pictures: Tensor) -> Tensor:
    """See `clapp.filters.random_kernels.random_41`."""
    return (_convolve(pictures, KERNEL_41).clamp(0, 1) * 255).to(torch.uint8)


def random2_51_15(pictures: Tensor) -> Tensor:
    """See `clapp.filters.random_kernels.random2_51_15`."""
    first, second = _convolve(pictures, KERNEL_51), _convolve(pictures, KERNEL_15)
    magnitude = _root(first * first + second * second)
    return (magnitude / _scale(magnitude) * 255).to(torch.uint8)


_NAMED: dict[str, BatchedFilter] = {
    "sobel_3": sobel_3,
    "random_41": random_41,
    "random2_51_15": random2_51_15,
}


def _extreme(pictures: Tensor, ksize: int, shape: str, iterations: int, sign: int) -> Tensor:
    """The largest value of each neighbourhood, or the smallest where `sign` is -1.

    Pictures are integers (B, H, W) or (B, H, W, C); pixels outside are ignored.
    """
    element = cv2.getStructuringElement(SHAPES[shape], (ksize, ksize))
    height, width = pictures.shape[1:3]
    far = ksize // 2
    margin = (0, 0) * (pictures.dim() - 3) + (far, far, far, far)
    x = sign * pictures.short()
    for _ in range(iterations):
        padded, x = F.pad(x, margin, value=-256), torch.full_like(x, -256)
        for row, column in np.argwhere(element).tolist():
            x = torch.maximum(x, padded[:, row : row + height, column : column + width])
    return (sign * x).to(torch.uint8)


def _dilate(pictures: Tensor, **how: Any) -> Tensor:
    return _extreme(pictures, **how, sign=1)


def _erode(pictures: Tensor, **how: Any) -> Tensor:
    return _extreme(pictures, **how, sign=-1)


def _open(pictures: Tensor, **how: Any) -> Tensor:
    return _dilate(_erode(pictures, **how), **how)


def _close(pictures: Tensor, **how: Any) -> Tensor:
    return _erode(_dilate(pictures, **how), **how)


def _gamma(pictures: Tensor, gamma: float) -> Tensor:
    return torch.as_tensor(gamma_table(gamma), device=pictures.device)[pictures.long()]


def _threshold(pictures: Tensor, level: int, mode: str) -> Tensor:
    above, white, black = pictures > level, torch.full_like(pictures, 255), pictures * 0
    chosen = {
        "binary": (white, black),
        "binary_inv": (black, white),
        "trunc": (torch.full_like(pictures, level), pictures),
        "tozero": (pictures, black),
        "tozero_inv": (black, pictures),
    }
    return torch.where(above, *chosen[mode])


_WITH_PARAMETERS: dict[str, Callable[..., Tensor]] = {
    "grey": lambda pictures: pictures,
    "gamma": _gamma,
    "threshold": _threshold,
    "erode": _erode,
    "dilate": _dilate,
    "open": _open,
    "close": _close,
    "gradient": lambda x, **how: _dilate(x, **how) - _erode(x, **how),
    "top_hat": lambda x, **how: x - _open(x, **how),
    "black_hat": lambda x, **how: _close(x, **how) - x,
}
"""Functions of uint8 (B, H, W) or (B, H, W, 3), and of the filter's parameters by name."""


def luma(pictures: Tensor) -> Tensor:
    """Pillow's mode `L`: uint8 (B, H, W, 3) -> int16 (B, H, W)."""
    red, green, blue = pictures.int().unbind(-1)
    total = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue + 2**15
    return (total >> 16).short()


def _smooth(x: Tensor, dim: int) -> Tensor:
    """Correlate with the weights 1, 2, 1 along `dim`, which becomes two pixels shorter."""
    size = x.shape[dim] - 2
    return x.narrow(dim, 0, size) + 2 * x.narrow(dim, 1, size) + x.narrow(dim, 2, size)


def _difference(x: Tensor, dim: int) -> Tensor:
    """Correlate with the weights -1, 0, 1 along `dim`, which becomes two pixels shorter."""
    size = x.shape[dim] - 2
    return x.narrow(dim, 2, size) - x.narrow(dim, 0, size)


def _root(squares: Tensor) -> Tensor:
    """The correctly rounded float32 root; torch's is sometimes an ulp off on the CPU (MKL)."""
    return squares.double().sqrt().float()


def _over_maximum(magnitude: Tensor) -> Tensor:
    """Scale float32 (B, H, W) so that each picture's maximum becomes 255, and truncate."""
    return (magnitude * 255 / _scale(magnitude)).to(torch.uint8)


def _scale(magnitude: Tensor) -> Tensor:
    """The divisor of each picture, (B, 1, 1)."""
    return magnitude.amax((1, 2), keepdim=True) + EPSILON


def _convolve(pictures: Tensor, kernel: Weights) -> Tensor:
    """Correlate RGB in [0, 1], zeros outside, with (3, 3, 3): float32 (B, H, W).

    OpenCV keeps one running sum over rows, columns and channels and rounds it to float32 after each
    product (fused multiply-add). Without this order, white areas differ by a whole grey level.
    """
    _, height, width, _ = pictures.shape
    planes = pictures.permute(3, 0, 1, 2).float()  # (3, B, H, W)
    planes = planes / planes.new_full((), 255)
    padded = F.pad(planes, (1, 1, 1, 1)).double()
    response = torch.zeros_like(planes[0])
    for row, column, channel in np.ndindex(3, 3, 3):
        shifted = padded[channel, :, row : row + height, column : column + width]
        # Computed in float64, where the product is exact, and rounded once to float32.
        response.add_(shifted, alpha=float(kernel[channel, row, column]))
    return response


def _correlate(pictures: Tensor, kernel: Weights) -> Tensor:
    """`_correlate` of `clapp.filters.linear` for a batch: float32 (B, H, W).

    Here OpenCV rounds both the product and the sum, and adds the channels at the end.
    """
    if kernel.ndim == 2:
        return _shifted_sum(luma(pictures), kernel)
    responses = map(_shifted_sum, pictures.unbind(-1), kernel)
    return sum(responses, torch.zeros((), device=pictures.device))


def _shifted_sum(planes: Tensor, kernel: Weights) -> Tensor:
    """Correlate (B, H, W), borders reflected, with (KH, KW): float32 (B, H, W)."""
    _, height, width = planes.shape
    down, across = kernel.shape
    # The anchor of a kernel with an even side lies right of and below its middle.
    before_and_after = [(size // 2, size - 1 - size // 2) for size in kernel.shape]
    padded = _reflected(planes, *before_and_after).float()
    response = torch.zeros(planes.shape, device=planes.device)
    for row, column in np.ndindex(down, across):
        shifted = padded[:, row : row + height, column : column + width]
        response += shifted * float(kernel[row, column])
    return response


def _reflected(planes: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Pad (B, H, W) by (before, after) pixels like BORDER_REFLECT_101, also by large borders."""
    for dim, (before, after) in ((1, rows), (2, columns)):
        length = planes.shape[dim]
        period = max(1, 2 * (length - 1))
        place = torch.arange(-before, length + after, device=planes.device) % period
        planes = planes.index_select(dim, torch.minimum(place, period - place))
    return planes


def _clipped(response: Tensor) -> Tensor:
    return response.clamp(0, 255).to(torch.uint8)


_NORMALISERS: dict[str, BatchedFilter] = {
    "none": lambda response: _clipped(response.abs()),
    "max": lambda response: _over_maximum(response.abs()),
    "clip": _clipped,
}
"""The normalisers of `clapp.filters.linear`, for batches."""
