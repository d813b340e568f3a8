"""Compare models with the classical filter they stand in for, picture by picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.errors import UserError
from clapp.filters.base import FilterSpec, Plane, as_unit
from clapp.filters.learned.paired import PAIRED, is_paired
from clapp.filters.learned.settings import PICTURE, Values
from clapp.filters.library import Filter, canonical, filter_name, output_channels, resolve
from clapp.images.decode import centre_crop
from clapp.inference.comparing.examples import Example, Worst
from clapp.inference.comparing.sets import named_pictures
from clapp.inference.metrics import (
    SMALLEST_SIDE,
    Edges,
    Metrics,
    edges,
    mean,
    mean_edges,
    measure,
)
from clapp.inference.picture import filter_picture
from clapp.inference.runner import Runner, open_runner
from clapp.inference.tiles import MEMORY
from clapp.system.intervals import mean_interval
from clapp.system.progress import tell
from clapp.system.sizes import parse_size

Picture = NDArray[np.uint8]
Bounds = tuple[float, float]
SHOWN = 6
"""Worst pictures that are kept to be shown."""


class Size(NamedTuple):
    """At which size pictures are compared.

    Attributes:
        resize: the shorter side in pixels after resizing (Pillow's bilinear).
        crop: the side in pixels of the central crop.
        native: neither: each picture as it is.
    """

    resize: int = 256
    crop: int = 224
    native: bool = False


class Row(NamedTuple):
    """One picture: its name and size, and figures for each model."""

    picture: str
    height: int
    width: int
    metrics: list[Metrics]
    edges: list[Edges | None]


class Evaluation(NamedTuple):
    """Means over pictures; see `clapp.inference.metrics.Metrics` for each measure.

    Attributes:
        images: pictures compared.
        skipped: pictures that could not be read; the log names them.
        edges: where all targets are binary, see `clapp.inference.metrics.Edges`.
        intervals: 95 % intervals of the means over such pictures, from two pictures on.
    """

    l2: float
    l1: float
    psnr: float
    ssim: float
    images: int
    skipped: int
    edges: Edges | None
    intervals: dict[str, Bounds]

    def document(self) -> dict[str, Any]:
        """What `clapp evaluate --json` prints of one model."""
        values = self._asdict()
        del values["skipped"], values["edges"], values["intervals"]
        return values | ({"edges": self.edges._asdict()} if self.edges else {})


class Comparison(NamedTuple):
    """Several models and the filter on the same pictures.

    Attributes:
        models: what they are called.
        filter: the classical filter.
        rows: the pictures, in their order.
        skipped: how many could not be read.
        worst: those with the largest L2, the mean over models, the worst first.
    """

    models: list[str]
    filter: str
    rows: list[Row]
    skipped: int
    worst: list[Example]

    def of(self, number: int) -> Evaluation:
        """The means of a model."""
        found = [row.metrics[number] for row in self.rows]
        binary = mean_edges([row.edges[number] for row in self.rows])
        columns = {name: [one[i] for one in found] for i, name in enumerate(Metrics._fields)}
        if binary is not None:
            known = [e for row in self.rows if (e := row.edges[number]) is not None]
            columns |= {name: [one[i] for one in known] for i, name in enumerate(Edges._fields)}
        intervals = {
            name: (bounds.low, bounds.high)
            for name, values in columns.items()
            if len(values) > 1 and (bounds := mean_interval(values))
        }
        return Evaluation(*mean(found), len(self.rows), self.skipped, binary, intervals)

    def against_first(self, number: int) -> Bounds | None:
        """The interval of a model's mean L2 less the first one's, picture by picture."""
        if number == 0 or len(self.rows) < 2:
            return None
        found = mean_interval([row.metrics[number].l2 - row.metrics[0].l2 for row in self.rows])
        return found.low, found.high

    def document(self) -> dict[str, Any]:
        """What `clapp evaluate --json` prints of several models."""
        models = []
        for number, name in enumerate(self.models):
            result, bounds = self.of(number), self.against_first(number)
            one = {"model": name, **result.document(), "intervals": result.intervals}
            models.append(one | ({"l2_against_first": bounds} if bounds else {}))
        return {"filter": self.filter, "images": len(self.rows), "models": models}


def evaluate(
    model: str | Path,
    images: str | Path,
    filter: FilterSpec | None = None,  # noqa: A002 - the word users know
    resize: int = 256,
    crop: int = 224,
    values: Values | None = None,
) -> Evaluation:
    """The means of one model; see `compare`."""
    return compare([model], str(images), filter, Size(resize, crop), values=values).of(0)


def compare(
    models: Sequence[str | Path],
    data: str,
    filter: FilterSpec | None = None,  # noqa: A002
    size: Size | None = None,
    *,
    most: int | None = None,
    memory: str = MEMORY,
    values: Values | None = None,
) -> Comparison:
    """L2, L1, PSNR, SSIM, and F1 of edges, of models against a classical filter.

    L2 is what training reports for its validation set.

    Args:
        models: export folders, trial folders or `.onnx` files.
        data: see `clapp.inference.comparing.sets.named_pictures`.
        filter: the classical filter; None: the one the models learned.
        size: at which pictures are compared; None: resized to 256 and cropped to 224.
        most: pictures at most; None: all.
        memory: for pictures of native size; see `clapp.inference.tiles`.
        values: of each setting of the models, by name; the filter is taken at them too.

    Raises:
        ConfigError: no such filter.
        UserError: no such model or pictures, none that can be read, models of different filters,
            or sizes that do not fit.
    """
    limit, size = parse_size(memory, "--memory"), size or Size()
    runners = [open_runner(model, values) for model in models]
    pairs = data.startswith("pairs:")
    if not size.native:
        _check_sizes(size, max(runner.min_size for runner in runners))
    spec = PAIRED if pairs and filter is None else _filter_of(models, runners, filter)
    if is_paired(spec) and not pairs:
        raise UserError(
            f"{data}: holds no results; the model learned pairs of pictures: give "
            "pairs:INPUT,TARGET, or --filter"
        )
    target_filter = resolve(spec)
    _check_channels(models, runners, spec, target_filter.name)
    pictures, skipped = named_pictures(data, most)
    rows, worst = [], Worst(SHOWN)
    for number, (name, picture) in enumerate(pictures, start=1):
        tell(f"comparing picture {number}")
        least = size.crop if pairs and not size.native else SMALLEST_SIDE
        if (size.native or pairs) and min(picture.shape[:2]) < least:
            skipped.add(name, ValueError(f"a side of {least} pixels or more is needed"))
            continue
        if not size.native:
            # Pairs are not resized: their filter may treat another size otherwise.
            resize = min(picture.shape[:2]) if pairs else size.resize
            picture = centre_crop(picture, resize, size.crop)
        picture = np.ascontiguousarray(picture)
        rows.append(_compared(name, picture, runners, target_filter, limit, worst))
    if not rows:
        raise UserError(f"{data}: none of its pictures has sides of {SMALLEST_SIDE} pixels or more")
    names = _names([str(model) for model in models])
    return Comparison(names, filter_name(spec), rows, skipped.count, worst.sorted())


def _compared(
    name: str,
    picture: Picture,
    runners: Sequence[Runner],
    target_filter: Filter,
    memory: int,
    worst: Worst,
) -> Row:
    target = as_unit(target_filter(picture))
    picture = np.ascontiguousarray(picture[..., :PICTURE])  # behind it a pair has its result
    outputs: list[Plane] = [
        filter_picture(runner, picture, memory, kind=np.float32) for runner in runners
    ]
    metrics = [measure(output, target) for output in outputs]
    worst.offer(name, [one.l2 for one in metrics], picture, target, outputs)
    found = [edges(output, target) for output in outputs]
    return Row(name, picture.shape[0], picture.shape[1], metrics, found)


def _check_sizes(size: Size, min_size: int) -> None:
    least = max(SMALLEST_SIDE, min_size)
    if not least <= size.crop <= size.resize:
        raise UserError(
            f"--crop {size.crop}: at least {least} (for SSIM and the model) and at most --resize "
            f"{size.resize} is allowed"
        )


def _filter_of(
    models: Sequence[str | Path], runners: Sequence[Runner], chosen: FilterSpec | None
) -> FilterSpec:
    """The filter to compare with: the chosen one, else the one that all models learned."""
    if chosen is not None:
        return chosen
    specs: list[FilterSpec] = []
    for model, runner in zip(models, runners, strict=True):
        if runner.filter is None:
            raise UserError(f"{model}: it does not say which filter it learned; give --filter")
        specs.append(canonical(runner.filter))
    first = specs[0]
    for model, spec in zip(models, specs, strict=True):
        if spec != first:
            raise UserError(
                f"{model}: learned {filter_name(spec)}, and {models[0]} {filter_name(first)}; "
                "give --filter"
            )
    return first


def _check_channels(
    models: Sequence[str | Path], runners: Sequence[Runner], spec: FilterSpec, name: str
) -> None:
    channels = output_channels(spec)
    for model, runner in zip(models, runners, strict=True):
        if channels not in (None, runner.channels):
            raise UserError(
                f"{model}: returns {runner.channels} channel{'s' * (runner.channels != 1)}; the "
                f"filter {name} returns {channels}"
            )


def _names(models: list[str]) -> list[str]:
    """Short names of paths that differ: without the folders that all lie in."""
    parts = [list(Path(model).absolute().parts) for model in models]
    while len(models) > 1 and len({one[0] for one in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [one[1:] for one in parts]
    return ["/".join(one) for one in parts] if len(models) > 1 else [parts[0][-1]]
