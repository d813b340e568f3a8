"""The photographs in the wheels of scikit-image and scikit-learn: no download, a fixed split.

docs/data.md says for each picture why it is used, and where.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count as whole_numbers
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clapp.config.schema import DataConfig
from clapp.errors import UserError, one_line
from clapp.images.decode import decode
from clapp.images.folder import opened
from clapp.images.paths import read_file, real
from clapp.images.source import (
    SOURCES,
    Named,
    Picture,
    Skipped,
    check_no_argument,
    check_split,
)

PHOTOS = {
    "train": (
        "astronaut.png",
        "grass.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
        "text.png",
    ),
    "validation": (
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "coins.png",
        "gravel.png",
        "rocket.jpg",
    ),
    "test": (
        "brick.png",
        "china.jpg",
        "clock_motion.png",
        "flower.jpg",
        "moon.png",
        "page.png",
    ),
}
REGIONS = {"train": 16, "validation": 2, "test": 5}
"""Regions cut from each picture of a split in an epoch, beside the whole picture."""
EDITION = 2
"""Raised when a split gets other pictures or other regions: losses are then no longer comparable.

In edition 1, brick, moon and page were training pictures, and validation pictures were whole.
"""
_SHARP = {"train": 128, "validation": 256, "test": 256}
"""Pixels: a smaller region would be enlarged, and blurred, for the default sizes."""
_FOLDERS = {
    "china.jpg": ("sklearn", "datasets/images"),
    "flower.jpg": ("sklearn", "datasets/images"),
}
_PROJECTS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


@SOURCES.register("photos")
class Photos:
    """An epoch yields every picture once, then round by round the `REGIONS` of each.

    There are few photographs, and natural scenes have the same statistics at all scales (Ruderman
    and Bialek, 1994), so an enlarged region serves as another photograph.
    """

    edition = EDITION

    def __init__(self, data: DataConfig, argument: str = "") -> None:
        check_no_argument(data, argument)
        self.split = check_split(data, PHOTOS)
        self.seed = data.seed
        self.skipped = Skipped()

    @staticmethod
    def shares(mine: Named, other: Named) -> bool:
        """Whether the splits are equal, or the other source is a folder with the packaged files."""
        if other.kind == mine.kind:
            return mine.data.split == other.data.split
        if other.kind != "folder" or mine.data.split not in PHOTOS:
            return False
        return not opened(other).isdisjoint(real(_path(n)) for n in PHOTOS[mine.data.split])

    def describe(self) -> str:
        """Name and split."""
        return f"photos ({self.split})"

    def fingerprint(self) -> dict[str, Any]:
        """Names and sizes of the files, and the seed."""
        sizes = {name: _path(name).stat().st_size for name in PHOTOS[self.split]}
        regions = {"regions": REGIONS[self.split], "sharp": _SHARP[self.split]}
        return {"kind": "photos", "files": sizes, **regions, "seed": self.seed}

    def origins(self, count: int) -> list[int]:
        """Which photograph each of the first `count` pictures shows, epoch after epoch."""
        found: list[int] = []
        for number in whole_numbers():
            order = self._generator(number).permutation(len(PHOTOS[self.split]))
            found += order.tolist() * (1 + REGIONS[self.split])
            if len(found) >= count:
                break
        return found[:count]

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """The pictures, then regions of them in the order of the pictures, round after round."""
        return islice(self._epoch(number), start, None)

    def _epoch(self, number: int) -> Iterator[Picture]:
        rng = self._generator(number)
        names = [PHOTOS[self.split][i] for i in rng.permutation(len(PHOTOS[self.split]))]
        pictures = []
        for name in names:
            pictures.append(_read(name))
            yield pictures[-1]
        for _ in range(REGIONS[self.split]):
            for picture in pictures:
                yield _region(picture, rng, _SHARP[self.split])

    def _generator(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number])


def _region(picture: Picture, rng: np.random.Generator, sharp: int) -> Picture:
    """A rectangle at a random place, a third to all of each side, log-uniform.

    Its sides are at least `sharp`, where the picture's are.
    """
    height, width = (
        round(np.exp(rng.uniform(np.log(max(side / 3, min(side, sharp))), np.log(side))))
        for side in picture.shape[:2]
    )
    top = rng.integers(picture.shape[0] - height + 1)
    left = rng.integers(picture.shape[1] - width + 1)
    return picture[top : top + height, left : left + width]


def _path(name: str) -> Path:
    # Found without importing the package, which takes a while and is not needed.
    package, folder = _FOLDERS.get(name, ("skimage", "data"))
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"photos: the package {_PROJECTS[package]}, which holds {name}, is missing")
    path = Path(spec.origin).parent / folder / name
    if not path.is_file():
        raise UserError(f"photos: {path} is missing; install {_PROJECTS[package]} again")
    return path


def _read(name: str) -> Picture:
    path = _path(name)
    try:
        return decode(read_file(path))
    except (OSError, ValueError) as error:
        raise UserError(f"photos: {path} cannot be read: {one_line(error)}") from error
