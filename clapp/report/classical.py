"""What the classical filter itself costs, as far as that can be said."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from clapp.filters.base import FilterSpec
from clapp.filters.kernels import inline_kernel
from clapp.models.costs import SIDE

_GREY, _BLUR = 3, 9
# What the functions of clapp.filters.base convolve with, in weights; Canny is no convolution.
_WEIGHTS = {
    "sobel_3": (_GREY + _BLUR + 2 * 3 * 3, "3 to make grey, 9 to blur, 9 for each derivative"),
    "random_41": (3 * 3 * 3, "27 of its kernel"),
    "random2_51_15": (2 * 3 * 3 * 3, "27 of each kernel"),
}


class Classical(NamedTuple):
    """FLOPs of a filter's kernels at 224x224, None where it is more than that, and why."""

    flops: int | None
    source: str


def classical(spec: FilterSpec) -> Classical:
    """The cost of a filter's kernels, counted as a network's convolutions are.

    That is 2 for each weight and pixel; the root of a sum of squares and the division by a maximum
    count nothing, as they do in a network.
    """
    found = _inline(spec) if isinstance(spec, Mapping) else _WEIGHTS.get(spec)
    if found is None:
        return Classical(None, "What it costs is no matter of kernels alone, so it has no FLOPs.")
    weights, which = found
    return Classical(
        2 * weights * SIDE**2,
        f"Its FLOPs are those of its kernels, counted alike: {weights} weights ({which}).",
    )


def _inline(spec: Mapping[str, Any]) -> tuple[int, str]:
    kernel, _ = inline_kernel(spec)
    grey = _GREY if kernel.ndim == 2 else 0
    return kernel.size + grey, "3 to make grey and its kernel" if grey else "its kernel"
