"""The kernels of the linear filters: the fixed random ones, and those a configuration holds."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clapp.errors import ConfigError

Weights = NDArray[np.float32]
LARGEST = 1e33
"""Sum of a kernel's magnitudes: its response to white, scaled by 255 more, is finite in float32."""
MODES = ("none", "max", "clip")
"""How a kernel's response becomes grey levels; `clapp.filters.base` says which is which."""


def _normalised(weights: list[float], generator: random.Random) -> Weights:
    """27 weights, shuffled into (channel, row, column), over the sum of their magnitudes."""
    generator.shuffle(weights)
    kernel = np.array(weights).reshape(3, 3, 3)
    normalised: Weights = (kernel / np.abs(kernel).sum()).astype(np.float32)
    return normalised


def _positive_kernel(seed: int) -> Weights:
    generator = random.Random(seed)  # noqa: S311 - the seed is the filter's definition
    return _normalised([generator.random() for _ in range(27)], generator)


def _antisymmetric_kernel(seed: int) -> Weights:
    generator = random.Random(seed)  # noqa: S311
    half = [generator.random() for _ in range(13)]
    return _normalised([*half, 0.0, *(-weight for weight in half)], generator)


KERNEL_41 = _positive_kernel(41)
KERNEL_51 = _antisymmetric_kernel(51)
KERNEL_15 = _antisymmetric_kernel(15)


def inline_kernel(spec: Mapping[str, Any]) -> tuple[Weights, str]:
    """What `{kernel: [[...]], normalize: none|max|clip}` means.

    Returns:
        The kernel, (KH, KW) for the grey picture or (3, KH, KW) with a plane for each channel, and
        one of `MODES`.

    Raises:
        ConfigError: an unknown key or mode, or a kernel of another shape or not of finite numbers.
    """
    unknown = [key for key in spec if key not in ("kernel", "normalize")]
    if unknown:
        raise ConfigError(f"filter: unknown key {unknown[0]!r}; known: kernel, normalize")
    if "kernel" not in spec:
        raise ConfigError("filter: the key kernel is required in a mapping")
    kernel = _weights(spec["kernel"])
    mode = spec.get("normalize", "clip")
    if not isinstance(mode, str) or mode not in MODES:
        allowed = ", ".join(MODES)
        raise ConfigError(f"filter: normalize {mode!r} is not allowed; allowed: {allowed}")
    return kernel, mode


def _weights(value: Any) -> Weights:
    try:
        kernel = np.array(value)
    except ValueError as error:
        raise ConfigError("filter: kernel must be rows of equal length") from error
    if kernel.size == 0 or not (kernel.ndim == 2 or (kernel.ndim == 3 and len(kernel) == 3)):
        raise ConfigError(
            "filter: kernel must be a list of rows, or three such lists (red, green, blue), "
            f"not of shape {kernel.shape}"
        )
    if kernel.dtype.kind not in "iuf" or not np.isfinite(kernel).all():
        raise ConfigError("filter: kernel must hold finite numbers")
    if np.abs(kernel.astype(np.float64) / LARGEST).sum() > 1:
        raise ConfigError(
            f"filter: the magnitudes of a kernel may add up to {LARGEST:g} at most; beyond, "
            "float32 overflows"
        )
    return kernel.astype(np.float32)
