"""The photographs in scikit-image's wheel: no download, a fixed split by picture.

docs/data.md lists each picture of the wheel, with the reason why it is used or not.
"""

from collections.abc import Iterator
from importlib.util import find_spec
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
        "brick.png",
        "grass.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "moon.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "page.png",
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
}
REGIONS = 16
"""Regions cut from each training picture in an epoch, beside the whole picture."""
_SHARP = 128  # pixels: for the default sizes, smaller regions would be enlarged, and so blurred


@SOURCES.register("photos")
class Photos:
    """An epoch yields every picture once and, for training, `REGIONS` regions of each after that.

    There are few photographs, and natural scenes have the same statistics at all scales (Ruderman
    and Bialek, 1994), so an enlarged region serves as another photograph.
    """

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
        return {"kind": "photos", "files": sizes, "regions": REGIONS, "seed": self.seed}

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """The pictures, then regions of them in the order of the pictures, round after round."""
        return islice(self._epoch(number), start, None)

    def _epoch(self, number: int) -> Iterator[Picture]:
        rng = np.random.default_rng([self.seed, number])
        names = [PHOTOS[self.split][i] for i in rng.permutation(len(PHOTOS[self.split]))]
        pictures = []
        for name in names:
            pictures.append(_read(name))
            yield pictures[-1]
        if self.split == "train":
            for _ in range(REGIONS):
                for picture in pictures:
                    yield _region(picture, rng)


def _region(picture: Picture, rng: np.random.Generator) -> Picture:
    """A rectangle at a random place; its sides are a third to all of the picture's, log-uniform."""
    height, width = (
        round(np.exp(rng.uniform(np.log(max(side / 3, min(side, _SHARP))), np.log(side))))
        for side in picture.shape[:2]
    )
    top = rng.integers(picture.shape[0] - height + 1)
    left = rng.integers(picture.shape[1] - width + 1)
    return picture[top : top + height, left : left + width]


def _path(name: str) -> Path:
    # Found without importing scikit-image, which takes a while and is not needed.
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError("photos: the package scikit-image, which holds them, is not installed")
    path = Path(spec.origin).parent / "data" / name
    if not path.is_file():
        raise UserError(f"photos: {path} is missing; install scikit-image again")
    return path


def _read(name: str) -> Picture:
    path = _path(name)
    try:
        return decode(read_file(path))
    except (OSError, ValueError) as error:
        raise UserError(f"photos: {path} cannot be read: {one_line(error)}") from error
