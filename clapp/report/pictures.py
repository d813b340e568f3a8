"""The pictures of a report: previews of the front, and the worst pictures of the best models."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from clapp.errors import ClappError, one_line
from clapp.filters.base import as_unit
from clapp.front.outcomes import Candidate
from clapp.pool.validation import validation_set
from clapp.report.data import Pick
from clapp.study.storage.keep import trial_folder
from clapp.training.folder import PREVIEW, draw_pictures, is_model_folder, load_trained
from clapp.training.preview import draw, predict

BUDGET = 2_000_000
"""The most bytes of all previews of a report together."""
MOST = 100
WORST = 3
_WIDEST, _NARROWEST = 734, 260  # pixels
_QUALITY = 72
_BYTES_A_PIXEL = 0.16  # upper estimate of the bytes per pixel of a preview at that quality


class Picture(NamedTuple):
    """A picture inside the page: its data URI, and its size in pixels."""

    uri: str
    width: int
    height: int


class Worst(NamedTuple):
    """The validation pictures on which a model fails most.

    Attributes:
        sheet: a row each: input, classical filter, model, difference.
        losses: L2 of these pictures, highest first.
        median: median L2 of all validation pictures.
        number: of validation pictures.
    """

    trial: int
    sheet: Picture
    losses: list[float]
    median: float
    number: int


@dataclass
class Pictures:
    """The pictures of a study, and messages about missing ones.

    Attributes:
        previews: trial -> its preview.
        missing: trials of the front without a readable preview.
    """

    previews: dict[int, Picture]
    missing: list[int]
    worst: list[Worst]
    notes: list[str]


def gather_pictures(
    folder: Path, front: Sequence[Candidate], picks: Sequence[Pick], budget: int = BUDGET
) -> Pictures:
    """Read the previews of the front and find the worst pictures of the picks.

    Args:
        folder: the study's results; trials trained on another machine are not in it.
        budget: bytes that the previews may have.
    """
    chosen = _spread([c.trial for c in front], {pick.model.trial for pick in picks})
    width = _width(budget / max(len(chosen), 1))
    previews, missing = {}, []
    for number in chosen:
        preview = _preview(trial_folder(folder, number) / PREVIEW, width)
        if preview is None:
            missing.append(number)
        else:
            previews[number] = preview
    found = Pictures(previews, missing, [], [])
    best = {p.model.trial: p.model for p in picks if p.rule in ("knee", "min-loss")}
    for number in best:
        place = trial_folder(folder, number)
        if not is_model_folder(place):
            continue
        try:
            found.worst.append(_worst(place, number))
        except (ClappError, OSError, ValueError, RuntimeError) as error:
            found.notes.append(f"Where trial {number} fails most is not shown: {one_line(error)}.")
    return found


def _spread(trials: Sequence[int], always: set[int]) -> list[int]:
    """Choose at most `MOST` trials, evenly spread, with all required ones."""
    if len(trials) <= MOST:
        return list(trials)
    even = {trials[round(i)] for i in np.linspace(0, len(trials) - 1, MOST - len(always))}
    return [trial for trial in trials if trial in even | always]


def _width(size: float) -> int:
    """The width of a preview that has about `size` bytes."""
    pixels = size / _BYTES_A_PIXEL
    return round(min(max(math.sqrt(pixels * 1.29), _NARROWEST), _WIDEST))  # 734 x 570


def _preview(path: Path, width: int) -> Picture | None:
    try:
        if not path.is_file() and is_model_folder(path.parent):
            draw_pictures(path.parent)
        with Image.open(path) as picture:
            return encode(picture.convert("RGB"), width)
    except (ClappError, OSError, ValueError, SyntaxError):  # missing or broken
        return None


def encode(picture: Image.Image, width: int) -> Picture:
    """A picture as WebP in a data URI, at most `width` pixels wide."""
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=_QUALITY, method=4)
    text = base64.b64encode(content.getvalue()).decode("ascii")
    return Picture(f"data:image/webp;base64,{text}", *picture.size)


def _worst(folder: Path, trial: int) -> Worst:
    model, config = load_trained(folder)
    images, targets = validation_set(config.valid_data, config.target_filter, config.parameter)
    outputs = predict(model, images)  # (N, S, S)
    errors = (outputs - as_unit(targets)) ** 2
    losses = errors.reshape(len(errors), -1).mean(axis=1)  # (N,)
    rows = np.argsort(-losses)[:WORST]
    sheet = draw(images[rows], targets[rows], outputs[rows], config.settings)
    return Worst(
        trial,
        encode(sheet, _WIDEST),
        [float(loss) for loss in losses[rows]],
        float(np.median(losses)),
        len(images),
    )
