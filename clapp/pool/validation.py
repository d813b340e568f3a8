"""The fixed validation set: made once, kept in the cache, shared by all workers."""

import json
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clapp.config import FilterSpec, ValidConfig
from clapp.errors import UserError
from clapp.filters.base import Target
from clapp.filters.learned.paired import is_paired
from clapp.filters.learned.settings import PICTURE, Ranges, adjustable, on_grid
from clapp.images import Source, open_source
from clapp.images import origins as origins_of
from clapp.images.decode import Picture, centre_crop
from clapp.pool.eviction import cache_dir, digest, writing
from clapp.system.files import atomic_path
from clapp.system.progress import tell

FORMAT = 1  # raise it when the pictures are cut differently


def validation_set(
    data: ValidConfig, target_filter: FilterSpec, parameter: Ranges | None = None
) -> tuple[Picture, Target]:
    """The first `num_images` pictures of a source and their filtered targets.

    The shorter side becomes `resize_base` (Pillow's antialiased bilinear); the central square of
    `crop_size` S is taken, and filtered after that. With settings each picture comes at every value
    of a grid, one after the other, the values as channels behind it.

    Returns:
        Pictures, uint8 (N, S, S, 3 or more), and targets, (N, S, S) or (N, S, S, 3), uint8 or
        float32 in [0, 1]. Every call of a process returns the same arrays.

    Raises:
        UserError: the source cannot be read; the cache folder cannot be written.
    """
    path = _stored(data)
    return _given(path, *_texts(target_filter, parameter))


def origins(data: ValidConfig, times: int = 1) -> list[int]:
    """Which picture of the source each of the set is cut from: numbers, equal for the same one.

    Args:
        times: how often the set has each, one after the other: at every value of a grid.
    """
    data = data.model_copy(update={"target_filter": None})  # it may not be hashable
    found = _origins(data, len(_pictures(_stored(data))))
    return [origin for origin in found for _ in range(times)]


def constant_l2(
    data: ValidConfig, target_filter: FilterSpec, parameter: Ranges | None = None
) -> float:
    """Mean squared error of the best constant output on the validation set: its variance."""
    return float(constant_losses(data, target_filter, parameter).mean())


def constant_losses(
    data: ValidConfig, target_filter: FilterSpec, parameter: Ranges | None = None
) -> NDArray[np.float64]:
    """Mean squared errors (N,) of the best constant output, one for each picture of the set.

    For colour targets, the constant is one value a channel.
    """
    return _deviations(_stored(data), *_texts(target_filter, parameter))


def _texts(target_filter: FilterSpec, parameter: Ranges | None) -> tuple[str, str]:
    """What a cache can know them by."""
    return json.dumps(target_filter), json.dumps(parameter)


def _stored(data: ValidConfig) -> Path:
    source = open_source(data)
    values = {
        "format": FORMAT,
        "source": source.fingerprint(),
        "sizes": [data.resize_base, data.crop_size, data.num_images],
    }
    folder = cache_dir() / "validation"
    path = folder / f"{digest(values)}.npy"
    if not path.is_file():
        pictures = _make(source, data)
        with writing(folder), atomic_path(path) as temporary:
            np.save(temporary, pictures)
    return path


def _make(source: Source, data: ValidConfig) -> Picture:
    pictures = []
    for number, picture in enumerate(islice(source.epoch(0), data.num_images), start=1):
        tell(f"reading validation pictures: {number} of {data.num_images}")
        pictures.append(centre_crop(picture, data.resize_base, data.crop_size))
    if not pictures:
        raise UserError(f"{source.describe()}: there are no pictures")
    return np.stack(pictures)


@cache
def _origins(data: ValidConfig, count: int) -> list[int]:
    return origins_of(open_source(data), count)


@cache
def _pictures(path: Path) -> Picture:
    # Copy-on-write: shared between processes, but writeable, as torch.from_numpy requires.
    pictures: NDArray[np.uint8] = np.load(path, mmap_mode="c")
    return np.asarray(pictures)


@cache
def _deviations(path: Path, filter_json: str, parameter_json: str) -> NDArray[np.float64]:
    targets = _given(path, filter_json, parameter_json)[1]
    values = targets / 255 if targets.dtype == np.uint8 else targets.astype(np.float64)
    squares = (values - values.mean(axis=(0, 1, 2))) ** 2
    losses: NDArray[np.float64] = squares.reshape(len(values), -1).mean(axis=1)
    return losses


@cache
def _given(path: Path, filter_json: str, parameter_json: str) -> tuple[Picture, Target]:
    target_filter = adjustable(json.loads(filter_json), json.loads(parameter_json))
    pictures = _pictures(path)
    if target_filter.settings:
        pictures = on_grid(pictures, target_filter.settings)
    targets = np.stack([target_filter(picture) for picture in pictures])
    if is_paired(target_filter.spec):
        pictures = np.ascontiguousarray(pictures[..., :PICTURE])
    return pictures, targets
