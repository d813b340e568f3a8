"""Compare a model with the classical filter it stands in for, over pictures."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.config import FilterSpec, load_config
from clapp.errors import UserError
from clapp.filters.base import Plane, as_unit
from clapp.filters.library import Filter, output_channels, resolve
from clapp.images.decode import centre_crop
from clapp.images.folder import Folder
from clapp.images.photos import PHOTOS, Photos
from clapp.images.source import Skipped
from clapp.inference.metrics import SMALLEST_SIDE, Edges, edges, mean, mean_edges, measure
from clapp.inference.picture import read_picture
from clapp.inference.runner import Runner, as_batch, as_image, open_runner
from clapp.system.progress import tell

Picture = NDArray[np.uint8]


class Evaluation(NamedTuple):
    """Means over pictures; see `clapp.inference.metrics.Metrics` for each measure.

    Attributes:
        images: pictures compared.
        skipped: pictures that could not be read; the log names them.
        edges: where all targets are binary, see `clapp.inference.metrics.Edges`.
    """

    l2: float
    l1: float
    psnr: float
    ssim: float
    images: int
    skipped: int
    edges: Edges | None = None

    def document(self) -> dict[str, Any]:
        """What `clapp evaluate --json` prints."""
        values = self._asdict()
        del values["skipped"], values["edges"]
        return values | ({"edges": self.edges._asdict()} if self.edges else {})


def evaluate(
    model: str | Path,
    images: str | Path,
    filter: FilterSpec | None = None,  # noqa: A002 - the word users know
    resize: int = 256,
    crop: int = 224,
) -> Evaluation:
    """Mean L2, L1, PSNR and SSIM, and F1 of edges, between a model and a classical filter.

    Each picture is resized (Pillow's bilinear), cropped at its centre, and given to both. L2 is
    what training reports for its validation set.

    Args:
        model: an export folder, a trial folder or an `.onnx` file.
        images: a picture, a folder that is searched recursively, or a split of the packaged
            photographs: `photos:validation`, `photos:train`.
        filter: the classical filter; None: the one the model learned.
        resize: the shorter side in pixels after resizing.
        crop: the side in pixels of the central crop.

    Raises:
        ConfigError: no such filter.
        UserError: no such model or pictures, none that can be read, or sizes that do not fit.
    """
    runner = open_runner(model)
    _check_sizes(resize, crop, runner)
    spec = filter if filter is not None else runner.filter
    if spec is None:
        raise UserError(f"{model}: it does not say which filter it learned; give --filter")
    pictures, skipped = _pictures(str(images))
    target_filter = resolve(spec)
    channels = output_channels(spec)
    if channels not in (None, runner.channels):
        raise UserError(
            f"{model}: returns {runner.channels} channel{'s' * (runner.channels != 1)}; the filter "
            f"{target_filter.name} returns {channels}"
        )
    crops = (centre_crop(picture, resize, crop) for picture in pictures)
    found, binary = [], []
    for number, picture in enumerate(crops, start=1):
        tell(f"comparing picture {number}")
        pair = _pair(runner, target_filter, picture)
        found.append(measure(*pair))
        binary.append(edges(*pair))
    return Evaluation(
        *mean(found), images=len(found), skipped=skipped.count, edges=mean_edges(binary)
    )


def _check_sizes(resize: int, crop: int, runner: Runner) -> None:
    least = max(SMALLEST_SIDE, runner.min_size)
    if not least <= crop <= resize:
        raise UserError(
            f"--crop {crop}: at least {least} (for SSIM and the model) and at most --resize "
            f"{resize} is allowed"
        )


def _pair(runner: Runner, target_filter: Filter, picture: Picture) -> tuple[Plane, Plane]:
    """The results of a model and of the filter for a picture, both as floats."""
    picture = np.ascontiguousarray(picture)  # (S, S, 3)
    return as_image(runner.run(as_batch(picture))), as_unit(target_filter(picture))


def _pictures(images: str) -> tuple[Iterator[Picture], Skipped]:
    """The pictures that `images` names, and the count of unreadable ones."""
    data = load_config().valid_data
    path = Path(images)
    if path.is_dir():
        folder = Folder(data.model_copy(update={"split": "all"}), images)
        return folder.epoch(0), folder.skipped
    if path.exists():
        return iter([read_picture(path)]), Skipped()
    source, _, split = images.partition(":")
    if source != "photos" or split not in PHOTOS:
        known = ", ".join(f"photos:{name}" for name in PHOTOS)
        raise UserError(
            f"{images}: there is no such file or folder; a picture, a folder or a packaged split "
            f"({known}) is expected"
        )
    photos = Photos(data.model_copy(update={"split": split}))
    # An epoch begins with the pictures; the regions after them are for training.
    return islice(photos.epoch(0), len(PHOTOS[split])), photos.skipped
