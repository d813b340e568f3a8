"""A folder of pictures, searched recursively."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clapp.config.schema import DataConfig
from clapp.errors import ConfigError, UserError
from clapp.images.decode import decode
from clapp.images.paths import expanded, is_folder, kind_of, listing_digest, nested, read_file, real
from clapp.images.search import search
from clapp.images.source import SOURCES, Named, Picture, Skipped, check_split

SPLITS = ("train", "validation", "test")
_TRAIN, _VALIDATION = 0.8, 0.9  # where the shares of train and validation end


@SOURCES.register("folder")
class Folder:
    """Every file below PATH whose extension Pillow can open; see `clapp.images.search`.

    Split `all` is everything. The other splits are the subfolders of these names where there are
    any, and otherwise shares of 80, 10 and 10 %, by a hash of the path below PATH: a picture keeps
    its split when others come or go.
    """

    def __init__(self, data: DataConfig, argument: str) -> None:
        if not argument:
            raise ConfigError(f"{data.name}: folder:PATH is expected")
        split = check_split(data, ("all", *SPLITS))
        self.root = expanded(argument)
        self.split = split
        self.seed = data.seed
        self.skipped = Skipped()
        self.files = sorted(_files_of(self.root, split).values())

    @staticmethod
    def shares(mine: Named, other: Named) -> bool:
        """Whether both find a file in common, also through links, or one folder lies in the
        other."""
        here, there = _tree(mine), _tree(other)
        if here is None or there is None:
            return False
        if here == there and _hashed(mine) and _hashed(other):
            return mine.data.split == other.data.split
        return nested(here, there) or not opened(mine).isdisjoint(opened(other))

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
                picture = decode(read_file(file))
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


def opened(source: Named) -> set[Path]:
    """The resolved paths of the pictures that a source opens in a folder of this machine."""
    try:
        if source.kind == "folder":
            return set(_files_of(expanded(source.argument), source.data.split))
        tree = _tree(source)
        return set() if tree is None else set(search(tree))
    except UserError:  # said when it is opened
        return set()


def _tree(source: Named) -> Path | None:
    """The resolved folder that a source searches; None if it searches none."""
    if source.kind not in ("folder", "huggingface") or not source.argument:
        return None
    try:
        root = expanded(source.argument) if source.kind == "folder" else Path(source.argument)
    except UserError:
        return None
    if source.kind == "huggingface" and not is_folder(root):
        return None
    below = root / source.data.split
    divided = _divided(root) if source.kind == "folder" else is_folder(below)
    return real(below if divided and source.data.split != "all" else root)


def _hashed(source: Named) -> bool:
    """Whether the splits of a folder are shares by hash, since there are no subfolders for them."""
    if source.kind != "folder" or source.data.split == "all":
        return False
    return not _divided(expanded(source.argument))


def _divided(root: Path) -> list[str]:
    """The splits that have a subfolder."""
    return [name for name in SPLITS if is_folder(root / name)]


def _files_of(root: Path, split: str) -> dict[Path, Path]:
    """The pictures of a split: path without links -> path."""
    kind = kind_of(root, "folder")
    if kind != "a folder":
        raise UserError(f"{root}: this is {kind}; a folder of pictures is expected")
    parts = _divided(root)
    if split == "all":
        files = search(root)
    elif parts and split not in parts:
        # A share of all files would overlap with the subfolders that exist.
        raise UserError(f"{root}: there is no subfolder {split!r} beside {', '.join(parts)}")
    elif parts:
        files = search(root / split)
    else:
        files = {
            target: file
            for target, file in search(root).items()
            if share(file.relative_to(root)) == split
        }
    if not files:
        raise UserError(f"{root}: there are no pictures in it for the split {split!r}")
    return files


def share(path: Path) -> str:
    """The split that a picture with this relative path belongs to, by a hash of it."""
    digest = hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if place < _TRAIN else "validation" if place < _VALIDATION else "test"
