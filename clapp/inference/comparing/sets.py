"""The pictures to compare models on, each with a name."""

import glob
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clapp.config import DataConfig, load_config
from clapp.errors import UserError
from clapp.images import open_source
from clapp.images.decode import decode
from clapp.images.folder import Folder
from clapp.images.paired.pairs import whole_pairs
from clapp.images.paths import read_file
from clapp.images.photos import PHOTOS, REGIONS, Photos
from clapp.images.source import SOURCES, Skipped
from clapp.inference.picture import read_picture

Named = tuple[str, NDArray[np.uint8]]
MOST = 256
"""Pictures of a source that may have no end."""


def named_pictures(data: str, most: int | None = None) -> tuple[Iterator[Named], Skipped]:
    """Pictures, uint8 (H, W, 3) each, and the count of those left out on the way.

    Args:
        data: a picture, a folder that is searched recursively, a pattern such as "photos/*.jpg",
            or a source as `valid_data.name` takes it with its split after a colon:
            "photos:validation", "synthetic:test", "folder:PATH:test", "huggingface:NAME:test";
            "pairs:INPUT,TARGET" gives (H, W, 6), pictures and results.
        most: pictures at most; None: all there are, of sources other than photographs and folders
            the first `MOST`.

    Raises:
        UserError: there are none; also while they are read.
    """
    pictures, skipped = _opened(data, most or MOST)
    return islice(pictures, most), skipped


def _opened(data: str, most: int) -> tuple[Iterator[Named], Skipped]:
    config, path, skipped = load_config().valid_data, Path(data), Skipped()
    if data.startswith("pairs:"):
        return whole_pairs(data.removeprefix("pairs:"), skipped), skipped
    if path.is_dir():
        folder = Folder(config.model_copy(update={"split": "all"}), data)
        return _files(data, folder.files, folder.root, skipped), skipped
    if path.exists():
        return iter([(path.name, read_picture(path))]), skipped
    if glob.has_magic(data) and ":" not in data:
        files = sorted(Path(name) for name in glob.glob(data, recursive=True))  # noqa: PTH207
        if not files:
            raise UserError(f"{data}: no file matches")
        return _files(data, files, None, skipped), skipped
    return _source(data, config, most)


def _files(data: str, files: list[Path], root: Path | None, skipped: Skipped) -> Iterator[Named]:
    good = 0
    for file in files:
        try:
            picture = decode(read_file(file))
        except Exception as error:  # Pillow's decoders raise nearly anything
            skipped.add(str(file), error)
            continue
        good += 1
        yield str(file if root is None else file.relative_to(root)), picture
    if not good:
        name, reason = next(iter(skipped.names.items()))
        raise UserError(
            f"{data}: none of its {len(files)} pictures can be read; the first: {name}: {reason}"
        )


def _source(data: str, config: DataConfig, most: int) -> tuple[Iterator[Named], Skipped]:
    name, _, split = data.rpartition(":")
    if name == "photos" and split in PHOTOS:
        photos = Photos(config.model_copy(update={"split": split}))
        # Of training, the pictures alone: what follows them are regions to train on.
        crops = 1 if split == "train" else 1 + REGIONS[split]
        pictures = islice(photos.epoch(0), crops * len(PHOTOS[split]))
        return _numbered(data, pictures), photos.skipped
    if name == "photos" or not set(name.partition(":")[0].split("+")) <= set(SOURCES):
        known = ", ".join(f"photos:{name}" for name in PHOTOS)
        raise UserError(
            f"{data}: there is no such file or folder; a picture, a folder, a packaged split "
            f"({known}), or a source and a split such as synthetic:test is expected"
        )
    source = open_source(config.model_copy(update={"name": name, "split": split}))
    return _numbered(data, islice(source.epoch(0), most)), source.skipped


def _numbered(data: str, pictures: Iterator[NDArray[np.uint8]]) -> Iterator[Named]:
    for number, picture in enumerate(pictures, start=1):
        yield f"{data} {number}", picture
