"""`clapp bench layer`: a loss on edges in a training loop, by a small model and by kornia.

A convolutional network learns to sharpen blurred, noisy photographs. The loss is L1 on pixels plus
L1 on edges, and edges are found by a model of CLAPP that learned `sobel_3`, by kornia's Sobel, by
kornia's Canny, or not at all. Every run has the same first weights and batches. Judged on the
validation photographs: PSNR, and the mean squared error of OpenCV's own `sobel_3`.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from loguru import logger
from torch import Tensor, nn

from benchmarks.measure import Result, Row, figure
from clapp.config import load_config
from clapp.filters.library import apply_filter
from clapp.training.int8.loss import training_pictures

OURS, SOBEL, CANNY, NONE = "ours", "kornia Sobel", "kornia Canny", "no edge loss"
WEIGHT, CROP, BATCH, RATE = 0.5, 64, 8, 2e-3
_SMALL: dict[str, Any] = {
    "stem": 1,
    "num_layers": 2,
    "capacity": [2, 2],
    "kernel_size": ["1x5", "5x1"],
    "depthwise": [False, True],
    "activation": ["none", "square"],
    "norm": "none",
    "rezero": False,
    "reskip": False,
    "bias": False,
    "head": "sum",
    "padding": "reflect",
    "output_activation": "sqrt",
    "output_norm": "max",
}
Edges = Callable[[Tensor], Tensor]


def run(steps: int) -> Result:
    """Train with every loss in turn.

    Args:
        steps: of Adam, batches of 8 crops of 64 pixels.
    """
    pictures, _ = training_pictures(load_config(), 32)
    config = load_config()
    valid, _ = training_pictures(config.model_copy(update={"train_data": _as_train(config)}), 16)
    rows = [_row(name, edges, pictures, valid, steps) for name, edges in _ways().items()]
    ratios = {
        f"{row['name']} / ours, ms a step": figure(rows, row["name"], "ms_a_step")
        / figure(rows, OURS, "ms_a_step")
        for row in rows[1:]
    }
    return Result(rows, ratios)


def _as_train(config: Any) -> Any:
    """The validation photographs where training pictures are asked for."""
    return config.train_data.model_copy(update={"split": config.valid_data.split})


def _ways() -> dict[str, Edges | None]:
    ways: dict[str, Edges | None] = {OURS: _model(), NONE: None}
    try:
        import kornia  # type: ignore[import-not-found]
    except ImportError:
        logger.warning("kornia is not installed: its rows are left out")
        return ways
    canny = kornia.filters.Canny()
    return ways | {SOBEL: kornia.filters.sobel, CANNY: lambda x: canny(x)[1]}


def _model() -> nn.Module:
    """23 parameters that learn `sobel_3` first, in some seconds."""
    from clapp.training.trainer import train

    values = {"loss_type": "l2", "starts": 4, "stop_l2_loss": None, "min_iterations": 200}
    result = train(load_config({"model": _SMALL, "train": values | {"patience": 3}}))
    logger.info(
        f"the model has {sum(p.numel() for p in result.model.parameters())} parameters, "
        f"loss {result.loss:.2g}"
    )
    return result.model.requires_grad_(False)


def _row(name: str, edges: Edges | None, pictures: Tensor, valid: Tensor, steps: int) -> Row:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    net = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))
    adam = torch.optim.Adam(net.parameters(), lr=RATE)
    draw = torch.Generator().manual_seed(0)
    seconds = []
    for _ in range(steps):
        sharp = _crops(pictures, draw)
        given = _blurred(sharp, draw)
        start = time.perf_counter()
        output = given + net(given)
        loss = F.l1_loss(output, sharp)
        if edges is not None:
            loss = loss + WEIGHT * F.l1_loss(edges(output), edges(sharp))
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        seconds.append(time.perf_counter() - start)
    moved = 0.0
    if edges is not None:
        output = given + net(given)
        moved = _slope(F.l1_loss(edges(output), edges(sharp)), output)
    with torch.no_grad():
        given = _blurred(valid, torch.Generator().manual_seed(1))
        output = (given + net(given)).clamp(0, 1)
    logger.info(f"{name}: {steps} steps in {sum(seconds):.0f} s")
    return {
        "name": name,
        "ms_a_step": float(np.median(seconds)) * 1000,
        "psnr_db": -10 * float(torch.log10(F.mse_loss(output, valid))),
        "edge_l2": float(np.mean([_edge_error(o, v) for o, v in zip(output, valid, strict=True)])),
        "edge_gradient": moved,
    }


def _slope(loss: Tensor, output: Tensor) -> float:
    """The mean magnitude of the gradient that a loss on edges gives to a pixel; 0: none at all."""
    if not loss.requires_grad:
        return 0.0
    (slope,) = torch.autograd.grad(loss, output, retain_graph=True, allow_unused=True)
    return 0.0 if slope is None else float(slope.abs().mean())


def _crops(pictures: Tensor, draw: torch.Generator) -> Tensor:
    side = pictures.shape[-1] - CROP
    numbers = torch.randint(len(pictures), (BATCH,), generator=draw).tolist()
    places = torch.randint(side, (BATCH, 2), generator=draw).tolist()
    return torch.stack(
        [
            pictures[n, :, y : y + CROP, x : x + CROP]
            for n, (y, x) in zip(numbers, places, strict=True)
        ]
    )


def _blurred(sharp: Tensor, draw: torch.Generator) -> Tensor:
    """Gaussian blur with a standard deviation of 1.5 pixels, and noise of 0.02."""
    line = torch.exp(-(torch.arange(-4, 5) ** 2) / 4.5)
    kernel = (line[:, None] * line[None]) / line.sum() ** 2
    blurred = F.conv2d(
        F.pad(sharp, (4, 4, 4, 4), mode="reflect"), kernel.expand(3, 1, 9, 9), groups=3
    )
    return blurred + 0.02 * torch.randn(sharp.shape, generator=draw)


def _edge_error(output: Tensor, target: Tensor) -> float:
    ours, theirs = (
        apply_filter("sobel_3", (x.permute(1, 2, 0) * 255).round().byte().numpy()) / 255.0
        for x in (output, target)
    )
    return float(np.mean((ours - theirs) ** 2))
