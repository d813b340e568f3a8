"""Whether networks find the kernels of their filters again: a table and a picture for a page.

A magnitude is the root of a sum of squares, `sqrt(x' M x)` with `M` the sum of the outer products
of its kernels. Rotating the kernels among each other leaves `M`, and so the filter, as it is; so
`M` is compared, and kernels are rotated to the filter's before they are drawn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from generate import table
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from published import best, drawn

from clapp.filters import base
from clapp.filters.random_kernels import KERNEL_15, KERNEL_41, KERNEL_51
from clapp.models.published import MODELS
from clapp.training.folder import load_trained

Kernels = NDArray[np.float64]
"""(n, 3, height, width): of red, green and blue."""
LUMA = np.array(base.LUMA) / 2**16
_SIDE = 17
_LARGEST_ERROR = 1e-4
"""Of a response, relative: above it a network isn't linear where its kernels are taken."""


def _sobel() -> Kernels:
    """Grey, a Gaussian of three pixels, the two derivatives of Sobel: (2, 3, 5, 5)."""
    blur = cv2.getGaussianKernel(3, 0)[:, 0]
    slope, smooth = (kernel[:, 0] for kernel in cv2.getDerivKernels(1, 0, 3))
    slope, smooth = np.convolve(slope, blur), np.convolve(smooth, blur)
    planes = np.stack([np.outer(smooth, slope), np.outer(slope, smooth)])
    kernels: Kernels = np.einsum("c,nhw->nchw", LUMA, planes)
    return kernels


FILTERS: dict[str, Kernels] = {
    "random2": np.stack([KERNEL_51, KERNEL_15]).astype(float),
    "random41": KERNEL_41[None].astype(float),
    "sobel3": _sobel(),
}
"""By study, what its filter responds by, before squares, maximum or clamping."""


def kernels_of(folder: Path) -> Kernels | None:
    """The response of a network's last convolution to each input of its surroundings.

    None: up to there the network isn't linear on pictures.
    """
    model, _ = load_trained(folder)
    caught: list[torch.Tensor] = []
    convolution = [
        layer
        for layer in model.get_submodule("main").modules()
        if isinstance(layer, torch.nn.Conv2d)
    ][-1]
    convolution.register_forward_hook(lambda _, __, output: caught.append(output))
    middle = _SIDE // 2

    def response(picture: torch.Tensor) -> torch.Tensor:
        model(picture)
        return caught.pop()[0, :, middle, middle]

    # Around grey, since a layer may take magnitudes of what is never negative on pictures.
    grey = torch.full((1, 3, _SIDE, _SIDE), 0.5)
    jacobian = torch.func.jacrev(response)(grey)[:, 0]
    noise = torch.rand(grey.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = response(noise) - response(grey)
    expected = torch.einsum("nchw,chw->n", jacobian, (noise - grey)[0])
    if (got - expected).abs().max() > _LARGEST_ERROR * expected.abs().max():
        return None
    found: Kernels = jacobian.detach().numpy().astype(float)
    return found


def same_size(kernels: Kernels, side: int = _SIDE) -> Kernels:
    """Kernels with zeros around them, of `side` x `side` pixels."""
    down, across = ((side - length) // 2 for length in kernels.shape[2:])
    return np.pad(kernels, ((0, 0), (0, 0), (down, down), (across, across)))


def difference(one: Kernels, other: Kernels) -> float:
    """How far two filters `sqrt(x' M x)` are apart, whatever their scale.

    Returns:
        The norm of the difference of their `M`, of which one is scaled to come nearest, over the
        norm of the other: 0 for the same filter, at most 1.
    """
    first, second = (k.reshape(len(k), -1).T @ k.reshape(len(k), -1) for k in (one, other))
    cosine = np.sum(first * second) / (np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.sqrt(max(0.0, 1 - cosine**2)))


def rotated(kernels: Kernels, target: Kernels) -> Kernels:
    """Kernels scaled and rotated among each other to come nearest to `target` (Procrustes)."""
    rows, wanted = kernels.reshape(len(kernels), -1), target.reshape(len(target), -1)
    left, sizes, right = np.linalg.svd(wanted @ rows.T)
    scale = sizes.sum() / np.sum(rows**2)
    nearest: Kernels = (scale * (left @ right) @ rows).reshape(kernels.shape)
    return nearest


class Found(NamedTuple):
    """A network beside the filter that it learned."""

    name: str
    test_psnr: float
    wanted: Kernels
    own: Kernels


def networks(found: Sequence[Mapping[str, Any]], published: Path) -> list[Found]:
    """Of each study of `FILTERS` the model that is drawn and the most accurate one, where they have
    kernels to compare."""
    result = []
    for one in found:
        if (wanted := FILTERS.get(one["study"])) is None:
            continue
        chosen = {row["model"]: row for row in (drawn(one["front"]), best(one["front"]))}
        for name, row in chosen.items():
            own = kernels_of(published / one["study"] / MODELS / name)
            if own is not None:
                title = f"{one['study']}:{name}"
                result.append(Found(title, row["test_psnr"], same_size(wanted), own))
    return result


def kernels_table(found: Sequence[Mapping[str, Any]], published: Path) -> str:
    """How far each network is from its filter, and how far two of the filters are apart."""
    rows = [
        (f"`{one.name}`", f"{one.test_psnr:.1f} dB", f"{difference(one.wanted, one.own):.1%}")
        for one in networks(found, published)
    ]
    apart = difference(*(same_size(FILTERS[study]) for study in ("sobel3", "random2")))
    rows.append(("the filter of `sobel3` beside that of `random2`", "", f"{apart:.1%}"))
    return table(("network", "test PSNR", "difference from its filter"), rows)


def picture(found: Sequence[Mapping[str, Any]], published: Path) -> Figure | None:
    """A row for each kernel: of red, green and blue, in the filter and in the network.

    None: no such network is published.
    """
    rows = [
        (one.name, wanted, own)
        for one in networks(found, published)
        if len(one.own) == len(one.wanted)  # others cannot be drawn side by side
        for wanted, own in zip(one.wanted, rotated(one.own, one.wanted), strict=True)
    ]
    if not rows:
        return None
    figure = Figure(figsize=(6.4, 0.85 * len(rows) + 0.3), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), 6, squeeze=False)
    for line, (name, wanted, own) in zip(grid, rows, strict=True):
        reach = np.argwhere(np.abs(wanted).max(0) > 0)
        margin = reach.min()
        shown = np.concatenate([wanted, own])[:, margin : _SIDE - margin, margin : _SIDE - margin]
        most = np.abs(shown).max()
        for axes, plane in zip(line, shown, strict=True):
            axes.imshow(plane, cmap="RdBu_r", vmin=-most, vmax=most)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize="small")
    for axes, words in zip(
        grid[0], [f"{who}, {c}" for who in ("filter", "network") for c in "RGB"], strict=True
    ):
        axes.set_title(words, fontsize="small")
    return figure
