"""The preview picture of a model: input, classical filter, model and difference, row by row."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from clapp.config import Config
from clapp.filters.base import Target, as_picture, as_unit
from clapp.filters.learned.settings import PICTURE, Setting, grid, said_of
from clapp.pool.validation import validation_set
from clapp.system.files import atomic_path
from clapp.training.tensors import input_tensor

ROWS = 3
_TITLES = ("input", "classical filter", "model", "difference")
_SIDE, _GAP, _CAPTION = 176, 6, 22
_PAPER, _INK = 255, 40  # levels of grey
_BRIGHTER, _DARKER = (178, 24, 43), (33, 102, 172)  # red and blue, ColorBrewer's RdBu


def write_preview(path: Path, model: nn.Module, config: Config) -> None:
    """Write a PNG with a row for each of the first validation pictures.

    Its columns are the input, the classical filter, the model (clamped to [0, 1]) and their
    difference, see `signed`.
    """
    images, targets = validation_set(config.valid_data, config.target_filter, config.parameter)
    rows = preview_rows(len(images), config.settings)
    images, targets = images[rows], targets[rows]
    sheet = draw(images, targets, predict(model, images), config.settings)
    with atomic_path(path) as temporary:
        # 256 colours: a quarter of the bytes. Better palettes and compression take 30 times as
        # long, more than a small network trains.
        sheet.quantize(method=Image.Quantize.FASTOCTREE).save(temporary, compress_level=1)


def preview_rows(number: int, settings: Sequence[Setting]) -> list[int]:
    """Which of `number` validation pictures are drawn: the first ones.

    With settings the first at the lowest values, at some between, and at the highest.
    """
    points = len(grid(settings))
    if points == 1:
        return list(range(min(ROWS, number)))
    return sorted({0, points // 2, points - 1})


def predict(model: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The model's output for uint8 (N, H, W, 3): float32 (N, H, W) or (N, H, W, 3), not clamped."""
    device = next(model.parameters()).device
    with torch.no_grad():  # one by one: large pictures and wide networks need much memory
        outputs = [model(input_tensor(image[None], device))[0].cpu() for image in images]
    result = torch.stack(outputs)  # (N, C, H, W)
    return (result[:, 0] if result.shape[1] == 1 else result.permute(0, 2, 3, 1)).numpy()


def draw(
    images: NDArray[np.uint8],
    targets: Target,
    outputs: NDArray[np.float32],
    settings: Sequence[Setting] = (),
) -> Image.Image:
    """The sheet of images (N, H, W, 3 + n), and targets and outputs, (N, H, W) or (N, H, W, 3).

    Outputs that are not a number are drawn as 1. Values of settings are written into the picture.
    """
    said = [said_of(image, settings) for image in images]
    images = np.ascontiguousarray(images[..., :PICTURE])
    outputs = np.nan_to_num(outputs, nan=1.0).clip(0, 1)
    differences = outputs - as_unit(targets)
    heading, step = _heading(), _SIDE + _GAP
    width, height = heading.width, _CAPTION + len(images) * step
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    sheet[:_CAPTION] = np.asarray(heading)
    for row in range(len(images)):
        coloured, factor = signed(differences[row])
        cells = (images[row], as_picture(targets[row]), as_picture(outputs[row]), coloured)
        for column, cell in enumerate(cells):
            top, left = _CAPTION + row * step, _GAP + column * step
            small = cv2.resize(cell, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
            sheet[top : top + _SIDE, left : left + _SIDE] = small
        _write(sheet, factor, left, top)  # in the last column
        _write(sheet, said[row], _GAP, top, _PAPER)
    return Image.fromarray(sheet)


def _write(
    sheet: NDArray[np.uint8], text: str, left: int, top: int, halo: int | None = None
) -> None:
    """A text in the lower left corner of a cell; with a halo it is read on any picture."""
    corner, font = (left + 4, top + _SIDE - 6), cv2.FONT_HERSHEY_SIMPLEX
    if halo is not None:
        cv2.putText(sheet, text, corner, font, 0.45, (halo,) * 3, 3, cv2.LINE_AA)
    cv2.putText(sheet, text, corner, font, 0.45, (_INK,) * 3, 1, cv2.LINE_AA)


def signed(difference: NDArray[np.float32]) -> tuple[NDArray[np.uint8], str]:
    """A difference as a colour picture (H, W, 3), and the factor that scales it: "x12".

    Of a difference (H, W, 3) the largest of the three channels is shown at each pixel.

    White is no difference, red a model that is brighter than the filter, blue one that is darker.
    The largest difference of the picture has the full colour.
    """
    if difference.ndim == 3:
        places = np.abs(difference).argmax(axis=2)[..., None]
        difference = np.take_along_axis(difference, places, axis=2)[..., 0]
    largest = float(np.abs(difference).max())
    if largest == 0:
        return np.full((*difference.shape, 3), _PAPER, np.uint8), "x1"
    share = (np.abs(difference) / largest)[..., None]  # (H, W, 1)
    full = np.where(difference[..., None] > 0, _BRIGHTER, _DARKER)  # (H, W, 3)
    colours = np.round(_PAPER + share * (full - float(_PAPER))).astype(np.uint8)
    return colours, f"x{1 / largest:,.3g}"


@cache
def _heading() -> Image.Image:
    """The titles of the columns, cached: drawing letters takes longer than drawing the pictures."""
    step = _SIDE + _GAP
    heading = Image.new("RGB", (len(_TITLES) * step + _GAP, _CAPTION), (_PAPER,) * 3)
    pen, font = ImageDraw.Draw(heading), ImageFont.load_default(size=13)
    for column, title in enumerate(_TITLES):
        middle = (_GAP + column * step + _SIDE / 2, _CAPTION / 2)
        pen.text(middle, title, fill=(_INK,) * 3, font=font, anchor="mm")
    return heading
