"""The pictures on which models fail most, and the sheet that shows them."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clapp.filters.base import Plane, as_picture
from clapp.training.preview import signed

Picture = NDArray[np.uint8]
SIDE = 224
"""Height and width in pixels of what is shown of a picture."""
_GAP, _CAPTION, _LETTERS = 6, 18, 12
_PAPER, _INK = 255, 40  # levels of grey


class Example(NamedTuple):
    """A part of a picture: the one where models are farthest from the filter.

    Attributes:
        picture: its name.
        losses: L2 of the whole picture, for each model.
        image: uint8 (h, w, 3), sides of at most `SIDE`.
        target, outputs: (h, w) or (h, w, 3), of the filter and of each model.
    """

    picture: str
    losses: list[float]
    image: Picture
    target: Plane
    outputs: list[Plane]


class Worst:
    """The examples with the largest mean L2 over models."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[float, int, Example]] = []
        self._offered = 0

    def offer(
        self,
        name: str,
        losses: Sequence[float],
        image: Picture,
        target: Plane,
        outputs: Sequence[Plane],
    ) -> None:
        """Keep a part of a picture if it is among the worst; the arrays may change afterwards."""
        loss = float(np.nan_to_num(np.mean(losses), nan=np.inf))
        self._offered += 1
        if len(self._kept) == self._most and loss <= self._kept[0][0]:
            return
        rows, columns = _worst_part(target, outputs)
        cut = [one[rows, columns].copy() for one in (target, *outputs)]
        part = image[rows, columns].copy()
        example = Example(name, list(losses), part, cut[0], cut[1:])
        entry = (loss, -self._offered, example)
        if len(self._kept) < self._most:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heapreplace(self._kept, entry)

    def sorted(self) -> list[Example]:
        """The worst first."""
        return [example for _, _, example in sorted(self._kept, reverse=True)]


def _worst_part(target: Plane, outputs: Sequence[Plane]) -> tuple[slice, slice]:
    """The window of at most `SIDE` pixels with the largest squared error, all models together."""
    errors = sum((output - target) ** 2 for output in outputs)
    plane = np.nan_to_num(np.atleast_3d(errors).mean(axis=2).astype(np.float32))
    height, width = (min(SIDE, side) for side in plane.shape)
    sums = cv2.boxFilter(plane, -1, (width, height), anchor=(0, 0), normalize=False)
    possible = sums[: plane.shape[0] - height + 1, : plane.shape[1] - width + 1]
    top, left = np.unravel_index(int(possible.argmax()), possible.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def draw_sheet(examples: Sequence[Example], models: Sequence[str]) -> Image.Image:
    """A row for each example: the picture, the filter, and each model and its difference."""
    titles = ["picture", "classical filter"]
    for name in models:
        titles += [name, "difference"]
    step, row = SIDE + _GAP, _CAPTION + SIDE + _GAP
    size = (_GAP + len(titles) * step, _CAPTION + len(examples) * row)
    sheet = Image.new("RGB", size, (_PAPER,) * 3)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_LETTERS)
    for column, title in enumerate(titles):
        place = (_GAP + column * step + SIDE / 2, _CAPTION / 2)
        pen.text(place, _fitting(title, font, SIDE), fill=(_INK,) * 3, font=font, anchor="mm")
    for number, example in enumerate(examples):
        top = _CAPTION + number * row
        losses = ", ".join(f"{loss:.3g}" for loss in example.losses)
        caption = _fitting(f"{example.picture}: L2 {losses}", font, size[0] - 2 * _GAP)
        pen.text((_GAP, top + _CAPTION / 2), caption, fill=(_INK,) * 3, font=font, anchor="lm")
        for column, (cell, words) in enumerate(_cells(example)):
            place = (_GAP + column * step, top + _CAPTION)
            sheet.paste(Image.fromarray(cell), place)
            pen.text((place[0] + 4, place[1] + cell.shape[0] - 16), words, (_INK,) * 3, font)
    return sheet


def _cells(example: Example) -> list[tuple[Picture, str]]:
    cells = [(example.image, ""), (as_picture(example.target), "")]
    for output in example.outputs:
        shown = np.nan_to_num(output, nan=1.0).clip(0, 1)
        coloured, factor = signed(shown - example.target)
        cells += [(as_picture(shown), ""), (coloured, factor)]
    return cells


def _fitting(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: float) -> str:
    """A text cut at its start so that it is no wider than `width`."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"
