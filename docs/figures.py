"""The pictures of published studies: a demo and the losses of each, for `make figures`."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kernels import picture
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from published import Row, drawn, steps

from clapp.filters.base import as_unit
from clapp.models.published import MODELS
from clapp.pool.validation import validation_set
from clapp.report.published.publish import CURVES
from clapp.system.files import atomic_path
from clapp.system.process import prepare_process
from clapp.training.folder import load_trained
from clapp.training.preview import draw, predict

MOST_BYTES = 150_000
_BLUE, _RED, _GREY = "#2166ac", "#b2182b", "#888888"


def write(found: Sequence[Mapping[str, Any]], published: Path, out: Path) -> None:
    """Write `STUDY.png` and `STUDY-loss.png` of every study, and `kernels.png`, into `out`.

    Args:
        found: see `published.studies`.
        published: the folder of their folders.
    """
    prepare_process()
    for one in found:
        folder = published / one["study"]
        demo(out / f"{one['study']}.png", folder / MODELS / drawn(one["front"])["model"])
        curves = json.loads((folder / CURVES).read_text(encoding="utf-8"))
        losses(out / f"{one['study']}-loss.png", one, curves)
    if kernels := picture(found, published):
        _save_figure(out / "kernels.png", kernels)


def demo(path: Path, model_folder: Path) -> None:
    """Input, classical filter, model and difference of the test picture with the median loss."""
    model, config = load_trained(model_folder)
    images, targets = validation_set(config.test_set, config.target_filter, config.parameter)
    outputs = predict(model, images)
    error = (outputs - as_unit(targets)).reshape(len(images), -1)
    median = int(np.argsort((error**2).mean(1))[len(images) // 2])
    one = slice(median, median + 1)
    save(path, draw(images[one], targets[one], outputs[one], config.settings))


def losses(path: Path, one: Mapping[str, Any], curves: Mapping[str, Sequence[Any]]) -> None:
    """Loss against parameters, on both sets of pictures, and validation loss while training."""
    figure = Figure(figsize=(7.4, 3), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)  # no window, whatever a user's settings say
    left, right = figure.subplots(1, 2)
    shown, reference = steps(one["front"]), one["reference"]
    _front(left, shown, reference)
    shades = np.linspace(0.25, 1, max(len(shown), 1))
    for row, shade in zip(shown, shades, strict=False):
        curve = curves.get(row["model"]) or [[row["iterations"], row["loss"]]]
        right.plot(*zip(*curve, strict=True), color=_BLUE, alpha=float(shade), linewidth=1.2)
    right.set(title="while training; darker: larger", xlabel="iterations", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.25)
    _save_figure(path, figure)


def _save_figure(path: Path, figure: Figure) -> None:
    with io.BytesIO() as drawing:
        figure.savefig(drawing, format="png")
        save(path, Image.open(drawing).convert("RGB"))


def _front(axes: Any, shown: Sequence[Row], reference: Row | None) -> None:
    sizes = [row["params"] for row in shown]
    tests = [row["test_loss"] for row in shown]
    axes.plot(sizes, [row["loss"] for row in shown], "o-", color=_BLUE, label="validation")
    axes.plot(sizes, tests, "s", color=_RED, markerfacecolor="none", label="test")
    if all(row["test_low"] is not None for row in shown):
        axes.vlines(
            sizes,
            [row["test_low"] for row in shown],
            [row["test_high"] for row in shown],
            color=_RED,
            alpha=0.4,
        )
    if reference is not None:
        axes.plot([reference["params"]], [reference["loss"]], "x", color=_GREY, label="reference")
    axes.set(title="the front", xlabel="parameters", ylabel="L2", xscale="log", yscale="log")
    axes.legend(fontsize="small")


def save(path: Path, sheet: Image.Image) -> None:
    """Write a PNG of at most `MOST_BYTES`, with as many colours as that allows.

    Raises:
        ValueError: sixteen colours are too many.
    """
    for colours in (256, 128, 64, 32, 16):
        with atomic_path(path) as temporary:
            sheet.quantize(colours).save(temporary, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            return
    raise ValueError(f"{path}: needs more than {MOST_BYTES} bytes")
