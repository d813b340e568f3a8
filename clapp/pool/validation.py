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
from clapp.filters.library import resolve
from clapp.images import Source, open_source
from clapp.images import origins as origins_of
from clapp.images.decode import Picture, centre_crop
from clapp.pool.eviction import cache_dir, digest, writing
from clapp.system.files import atomic_path
from clapp.system.progress import tell

FORMAT = 1  # raise it when the pictures are cut differently


def validation_set(data: ValidConfig, target_filter: FilterSpec) -> tuple[Picture, Target]:
    """The first `num_images` pictures of a source and their filtered targets.

    The shorter side is resized to `resize_base` (Pillow's antialiased bilinear); the filter is
    applied to the central square of side S, the `crop_size`.

    Returns:
        Pictures, uint8 (N, S, S, 3), memory-mapped, and targets, (N, S, S) or (N, S, S, 3), uint8
        or float32 in [0, 1]. Every call of a process returns the same arrays.

    Raises:
        UserError: the source cannot be read; the cache folder cannot be written.
    """
    path = _stored(data)
    return _pictures(path), _targets(path, json.dumps(target_filter))


def origins(data: ValidConfig) -> list[int]:
    """Which picture of the source each of the set is cut from: numbers, equal for the same one."""
    data = data.model_copy(update={"target_filter": None})  # it may not be hashable
    return _origins(data, len(_pictures(_stored(data))))


def constant_l2(data: ValidConfig, target_filter: FilterSpec) -> float:
    """Mean squared error of the best constant output on the validation set: its variance.

    For colour targets, the constant is one value a channel.
    """
    return _variance(_stored(data), json.dumps(target_filter))


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
def _variance(path: Path, filter_json: str) -> float:
    targets = _targets(path, filter_json)
    values = targets / 255 if targets.dtype == np.uint8 else targets.astype(np.float64)
    return float(values.var(axis=(0, 1, 2)).mean())


@cache
def _targets(path: Path, filter_json: str) -> Target:
    target_filter = resolve(json.loads(filter_json))
    return np.stack([target_filter(picture) for picture in _pictures(path)])
