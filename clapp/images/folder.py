"""A folder of pictures, searched recursively."""

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from clapp.config import DataConfig
from clapp.errors import ConfigError, UserError
from clapp.images.decode import to_rgb
from clapp.images.source import Picture, Skipped, check_split, listing_digest

SPLITS = ("train", "validation", "test")
_TRAIN, _VALIDATION = 0.8, 0.9  # where the shares of train and validation end


class Folder:
    """Every file below PATH whose extension Pillow can open.

    Split `all` is everything. The other splits are the subfolders of these names where there are
    any, and otherwise shares of 80, 10 and 10 %, by a hash of the path below PATH: a picture keeps
    its split when others come or go.
    """

    def __init__(self, data: DataConfig, path: str) -> None:
        if not path:
            raise ConfigError(f"{data.name}: folder:PATH is expected")
        split = check_split(data, ("all", *SPLITS))
        self.root = Path(path).expanduser().absolute()
        self.split = split
        self.seed = data.seed
        self.skipped = Skipped()
        self.files = _files_of(self.root, split)

    def describe(self) -> str:
        """Path and split."""
        return f"folder {self.root} ({self.split})"

    def fingerprint(self) -> dict[str, Any]:
        """Path, digest of the listing (names, sizes, times), and the seed."""
        listing = listing_digest(self.root, self.files)
        return {"kind": "folder", "root": str(self.root), "listing": listing, "seed": self.seed}

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """Every readable picture once."""
        return islice(self._epoch(number), start, None)

    def _epoch(self, number: int) -> Iterator[Picture]:
        order = np.random.default_rng([self.seed, number]).permutation(len(self.files))
        good = 0
        for position in order:
            file = self.files[position]
            try:
                with Image.open(file) as image:
                    picture = to_rgb(image)
            except Exception as error:  # Pillow's decoders raise nearly anything
                self.skipped.add(str(file), error)
                continue
            good += 1
            yield picture
        if not good:
            name, reason = next(iter(self.skipped.names.items()))
            raise UserError(
                f"{self.root}: none of its {len(self.files)} pictures can be read; "
                f"the first: {name}: {reason}"
            )


def _files_of(root: Path, split: str) -> list[Path]:
    if not root.exists():
        raise UserError(f"{root}: there is no such folder")
    if not root.is_dir():
        raise UserError(f"{root}: this is a file; a folder of pictures is expected")
    parts = [name for name in SPLITS if (root / name).is_dir()]
    if split == "all":
        files = _search(root)
    elif parts and split not in parts:
        # A share of everything would overlap with the subfolders that do exist.
        raise UserError(f"{root}: there is no subfolder {split!r} beside {', '.join(parts)}")
    elif parts:
        files = _search(root / split)
    else:
        files = [file for file in _search(root) if _share(file.relative_to(root)) == split]
    if not files:
        raise UserError(f"{root}: there are no pictures in it for the split {split!r}")
    return files


def _search(folder: Path) -> list[Path]:
    Image.init()  # loads every format's plugin
    known = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent) / name
            if file.suffix.lower() in known and not name.startswith("."):
                found.append(file)
    return sorted(found)


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _share(path: Path) -> str:
    digest = hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if place < _TRAIN else "validation" if place < _VALIDATION else "test"
