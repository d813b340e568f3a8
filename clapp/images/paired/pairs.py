"""Pictures and what a filter made of them, in two folders: for a filter known by its results."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clapp.config import DataConfig
from clapp.errors import ConfigError, UserError
from clapp.filters.learned.paired import CHANNELS_OF_PAIR
from clapp.images.decode import decode
from clapp.images.folder import SPLITS, opened, share
from clapp.images.paths import expanded, is_folder, kind_of, listing_digest, read_file
from clapp.images.search import search
from clapp.images.source import SOURCES, Named, Picture, Skipped, check_split

WINDOWS = 16
"""At most so many windows of a picture are taken in an epoch."""
_FORM = "pairs:INPUT,TARGET, or pairs:PATH with the folders input and target in it, is expected"


@SOURCES.register("pairs")
class Pairs:
    """A picture of INPUT and one of TARGET whose paths below these are equal but for the suffix.

    Windows of `resize_base` pixels are cut from both, never resized and never turned: a filter that
    is known by its results alone may treat another size or orientation otherwise. An epoch has one
    window of each picture, then another one, up to 16, as many as cover it. A window is uint8
    (S, S, 6): the input's channels, then the target's. Splits are `all`, or shares of 80, 10 and
    10 % by a hash of the path without its suffix.
    """

    channels = CHANNELS_OF_PAIR

    def __init__(self, data: DataConfig, argument: str) -> None:
        self.split = check_split(data, ("all", *SPLITS))
        self.roots = _roots(data.name, argument)
        self.seed, self.side = data.seed, data.resize_base
        self.skipped = Skipped()
        inputs, targets = (_files(root) for root in self.roots)
        both = sorted(inputs.keys() & targets.keys())
        self._alone = {
            **{inputs[key]: "it has no target" for key in inputs.keys() - targets.keys()},
            **{targets[key]: "it has no input" for key in targets.keys() - inputs.keys()},
        }
        if not both:
            raise UserError(
                f"{self.roots[0]} and {self.roots[1]}: no picture of one has the name of one of "
                f"the other; the first: {next(iter(sorted(inputs)), 'none')} and "
                f"{next(iter(sorted(targets)), 'none')}"
            )
        self.pairs = [
            (inputs[key], targets[key]) for key in both if self.split in ("all", share(Path(key)))
        ]
        if not self.pairs:
            raise UserError(
                f"{self.roots[0]}: none of its {len(both)} pairs is in the split {self.split!r}"
            )

    @staticmethod
    def shares(mine: Named, other: Named) -> bool:
        """By the input pictures that are opened, also with a folder in which they lie."""
        theirs = _opened(other) if other.kind == mine.kind else opened(other)
        return not _opened(mine).isdisjoint(theirs)

    def describe(self) -> str:
        """Both folders and the split."""
        return f"pairs {self.roots[0]}, {self.roots[1]} ({self.split})"

    def fingerprint(self) -> dict[str, Any]:
        """Paths, digests of the listings, the seed and the size of the windows."""
        listings = [
            listing_digest(root, [pair[side] for pair in self.pairs])
            for side, root in enumerate(self.roots)
        ]
        return {
            "kind": "pairs",
            "roots": list(map(str, self.roots)),
            "listings": listings,
            "seed": self.seed,
            "side": self.side,
        }

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """Windows of every readable pair."""
        return islice(self._epoch(number), start, None)

    def _epoch(self, number: int) -> Iterator[Picture]:
        for file, reason in self._alone.items():
            self.skipped.add(str(file), ValueError(reason))
        rng = np.random.default_rng([self.seed, number])
        left = {int(position): WINDOWS for position in rng.permutation(len(self.pairs))}
        good = 0
        for window in range(WINDOWS):
            for position in [p for p, most in left.items() if window < most]:
                try:
                    pair = _read(*self.pairs[position], self.side)
                except Exception as error:  # Pillow's decoders raise nearly anything
                    self.skipped.add(str(self.pairs[position][0]), error)
                    left[position] = 0
                    continue
                height, width = pair.shape[:2]
                left[position] = min(WINDOWS, -(-height * width // self.side**2))
                good += 1
                yield self._window(
                    pair, np.random.default_rng([self.seed, number, position]), window
                )
        if not good:
            name, reason = next(iter(self.skipped.names.items()))
            raise UserError(
                f"{self.roots[0]}: none of its {len(self.pairs)} pairs can be used; the first: "
                f"{name}: {reason}"
            )

    def _window(self, pair: Picture, rng: np.random.Generator, number: int) -> Picture:
        """Window `number` of a pair, at a random place."""
        places = rng.random((WINDOWS, 2))[number]
        top, left = (
            int(place * (side - self.side + 1))
            for place, side in zip(places, pair.shape[:2], strict=True)
        )
        return np.ascontiguousarray(pair[top : top + self.side, left : left + self.side])


def _read(input_file: Path, target_file: Path, least: int) -> Picture:
    """Both pictures as one of six channels.

    Raises:
        ValueError: they cannot be read, differ in size, or are smaller than a window.
    """
    image = decode(read_file(input_file))
    try:
        target = decode(read_file(target_file))
    except Exception as error:
        raise ValueError(f"its target {target_file}: {error}") from error
    (height, width), (high, wide) = image.shape[:2], target.shape[:2]
    if (height, width) != (high, wide):
        raise ValueError(f"it has {width}x{height} pixels, its target {target_file} {wide}x{high}")
    if min(height, width) < least:
        raise ValueError(
            f"it has {width}x{height} pixels; sides of at least {least} are needed, as pairs are "
            "not resized"
        )
    return np.concatenate([image, target], axis=2)


def whole_pairs(argument: str, skipped: Skipped) -> Iterator[tuple[str, Picture]]:
    """Every pair whole, uint8 (H, W, 6), with its name and in their order.

    Args:
        skipped: gets those that cannot be used.

    Raises:
        ConfigError, UserError: see `Pairs`; none can be used.
    """
    roots = _roots(f"pairs:{argument}", argument)
    inputs, targets = (_files(root) for root in roots)
    good = 0
    for key in sorted(inputs.keys() | targets.keys()):
        try:
            if key not in inputs or key not in targets:
                raise ValueError(f"it has no {'target' if key in inputs else 'input'}")
            pair = _read(inputs[key], targets[key], 1)
        except Exception as error:  # Pillow's decoders raise nearly anything
            skipped.add(str(inputs.get(key) or targets[key]), error)
            continue
        good += 1
        yield key, pair
    if not good:
        raise UserError(f"{roots[0]} and {roots[1]}: there is no pair that can be used")


def _roots(name: str, argument: str) -> tuple[Path, Path]:
    """The folders of inputs and of targets."""
    if not argument:
        raise ConfigError(f"{name}: {_FORM}")
    first, comma, second = argument.partition(",")
    if comma:
        return expanded(first), expanded(second)
    root = expanded(argument)
    if kind_of(root, "folder") != "a folder" or not (
        is_folder(root / "input") and is_folder(root / "target")
    ):
        raise UserError(f"{root}: {_FORM}")
    return root / "input", root / "target"


def _files(root: Path) -> dict[str, Path]:
    """The pictures of a folder by their paths below it without suffix."""
    kind = kind_of(root, "folder")
    if kind != "a folder":
        raise UserError(f"{root}: this is {kind}; a folder of pictures is expected")
    found: dict[str, Path] = {}
    for file in sorted(search(root).values()):
        key = file.relative_to(root).with_suffix("").as_posix()
        if key in found:
            raise UserError(f"{file}: {found[key].name} has the same name but for its suffix")
        found[key] = file
    return found


def _opened(source: Named) -> set[Path]:
    """The files, without links, that are read as inputs."""
    try:
        pairs = Pairs(source.data, source.argument).pairs
    except (ConfigError, UserError):  # said when it is opened
        return set()
    return {file.resolve() for file, _ in pairs}
