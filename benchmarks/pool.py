"""`clapp bench pool`: filtered crops a second, from JPEG files to batches.

Every way reads the same files with the same functions: shorter side to 128 pixels, a random crop of
64, `sobel_3`, batches of 8. Decoding each time is what the system of 2022 does; ours decodes a
picture once. Each consumer is a process of its own, as each worker of a study is; the time is from
when all of them set out until the last one is done.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from benchmarks.measure import Result, Row, figure, in_turn
from clapp.config import DataConfig, load_config
from clapp.filters.library import resolve
from clapp.images import open_source
from clapp.images.decode import shorter_side_to
from clapp.images.samples import Picture, as_rgb
from clapp.pool.batches import Batch, Batches
from clapp.pool.pool import Pool
from clapp.pool.store import Slots

if TYPE_CHECKING:
    from threading import Barrier

FILTER, BATCH, CROP, BASE = "sobel_3", 8, 64, 128
_LOADER_WORKERS = 2
_SHARE = 20  # a way that decodes each time is as fast at the first picture as at the last
_PATIENCE = 300.0  # seconds for all consumers to get ready


@dataclass(frozen=True)
class Job:
    """A consumer's part: where the JPEG files and the picture cache lie, and how much to read."""

    folder: Path
    cache: Path
    batches: int
    seed: int


class Samples:
    """Sample `index` of a consumer: a file, resize and crop at random; a dataset as torch's."""

    def __init__(self, job: Job) -> None:
        self.files = sorted(job.folder.glob("*.jpg"))
        self.length, self.seed = job.batches * BATCH, job.seed
        self.target = resolve(FILTER)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Picture, Picture]:
        rng = np.random.default_rng([self.seed, index])
        with Image.open(self.files[rng.integers(len(self.files))]) as image:
            picture = shorter_side_to(as_rgb(image), BASE)
        top, left = (rng.integers(side - CROP + 1) for side in picture.shape[:2])
        crop = np.ascontiguousarray(picture[top : top + CROP, left : left + CROP])
        return crop, self.target(crop)


class EachTime:
    """Every crop decoded anew, in the consumer itself."""

    def __init__(self, job: Job) -> None:
        self.samples = Samples(job)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.samples), BATCH):
            samples = [self.samples[index] for index in range(start, start + BATCH)]
            pictures, targets = zip(*samples, strict=True)
            yield np.stack(pictures), np.stack(targets)


class Loader:
    """The same by torch's DataLoader with two workers for each consumer."""

    def __init__(self, job: Job) -> None:
        from torch.utils.data import DataLoader

        samples: Any = Samples(job)
        # A consumer is spawned and would pass that on; forked workers need not import torch again.
        how = "fork" if sys.platform == "linux" else None
        self.loader = DataLoader(
            samples, batch_size=BATCH, num_workers=_LOADER_WORKERS, multiprocessing_context=how
        )

    def __iter__(self) -> Iterator[Batch]:
        for pictures, targets in self.loader:
            yield pictures.numpy(), targets.numpy()


class Pooled:
    """Ours: batches from a pool that all consumers share, and the pool complete at the end."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __iter__(self) -> Iterator[Batch]:
        os.environ["CLAPP_CACHE"] = str(self.job.cache)
        with Pool.open(data_config(self.job.folder), stages=1) as pool:
            ours = Batches(pool, resolve(FILTER), BATCH, CROP, BASE, self.job.seed)
            with closing(ours.prefetch(0, workers=0)) as stream:
                yield from islice(stream, self.job.batches)
            pool.pictures(pool.data.max_buffer)  # waits: all the decoding counts


Way = Callable[[Job], Iterable[Batch]]


def run(pictures: int, batches: int, consumers: list[int], repeats: int) -> Result:
    """Measure all ways with each number of consumers.

    Args:
        pictures: JPEG files, from about 500x375 to 1024x768 pixels.
        batches: that each consumer takes from a pool; a twentieth of them where every crop is
            decoded anew, since that takes so much longer.
        consumers: numbers of them.
        repeats: rounds.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_jpegs(folder / "pictures", pictures)
        runs: dict[str, Callable[[], dict[str, float]]] = {}
        for number in consumers:
            runs |= _runs(folder, batches, number)
        rows = in_turn(runs, repeats)
    return Result(rows, _ratios(rows, consumers))


def _runs(folder: Path, batches: int, consumers: int) -> dict[str, Callable[[], dict[str, float]]]:
    fewer = -(-batches // _SHARE)
    return {
        _name("decoding each time", consumers): partial(
            _decoded_each_time, EachTime, folder, fewer, consumers
        ),
        _name("DataLoader", consumers): partial(
            _decoded_each_time, Loader, folder, fewer, consumers
        ),
        _name("ours cold", consumers): partial(_ours_cold, folder, batches, consumers),
        _name("ours warm", consumers): partial(_ours_warm, folder, batches, consumers),
    }


def _name(way: str, consumers: int) -> str:
    return f"{way}, {consumers} consumer{'s' * (consumers > 1)}"


def _ratios(rows: list[Row], consumers: list[int]) -> dict[str, float]:
    ratios = {}
    for number in consumers:
        for peer in ("decoding each time", "DataLoader"):
            for ours in ("ours cold", "ours warm"):
                fast, slow = (
                    figure(rows, _name(way, number), "pictures_per_s") for way in (ours, peer)
                )
                ratios[_name(f"{peer} / {ours}", number)] = fast / slow
    # Ours to ours: 1 when consumers share the work, and their number when they do not.
    decoded = {number: figure(rows, _name("ours cold", number), "decoded") for number in consumers}
    for number in consumers[1:]:
        key = _name("pictures decoded by ours", number) + f" / {consumers[0]}"
        ratios[key] = decoded[number] / decoded[consumers[0]]
    return ratios


def _decoded_each_time(way: Way, folder: Path, batches: int, consumers: int) -> dict[str, float]:
    seconds = _seconds(way, folder, folder, batches, consumers)
    crops = batches * BATCH * consumers
    return {"pictures_per_s": crops / seconds, "crops": crops, "decoded": crops}


def _ours_cold(folder: Path, batches: int, consumers: int) -> dict[str, float]:
    """From an empty cache, the feeder's start and all its decoding included."""
    with TemporaryDirectory(dir=folder) as cache:
        return _ours(folder, Path(cache), batches, consumers)


def _ours_warm(folder: Path, batches: int, consumers: int) -> dict[str, float]:
    """From the pool that an earlier run left."""
    cache = folder / "warm"
    if not cache.is_dir():
        _seconds(Pooled, folder, cache, 1, 1)
    return _ours(folder, cache, batches, consumers)


def _ours(folder: Path, cache: Path, batches: int, consumers: int) -> dict[str, float]:
    before = _stored(cache, folder)
    seconds = _seconds(Pooled, folder, cache, batches, consumers)
    crops = batches * BATCH * consumers
    decoded = _stored(cache, folder) - before
    return {"pictures_per_s": crops / seconds, "crops": crops, "decoded": decoded}


def _stored(cache: Path, folder: Path) -> int:
    """How often a picture was written into the one pool of `cache`, for the first time or again."""
    if not (cache / "pool").is_dir():
        return 0
    data = data_config(folder / "pictures")
    slots = Slots(next((cache / "pool").iterdir()), data.max_buffer, BASE)
    writes = sum(slots.stamp(number) // 2 for number in range(slots.filled))
    slots.close()
    return writes


def data_config(folder: Path) -> DataConfig:
    """All pictures of `folder`, at the sizes of the first resolution."""
    return load_config().train_data.model_copy(
        update={
            "name": f"folder:{folder}",
            "split": "all",
            "resize_base": BASE,
            "crop_size": CROP,
            "target_filter": FILTER,
        }
    )


def write_jpegs(folder: Path, number: int) -> None:
    """Write JPEG files of 4:3, 500 to 1024 pixels wide: scikit-image's photographs and regions."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    source = open_source(load_config().train_data)
    pictures = (picture for epoch in count() for picture in source.epoch(epoch))
    for index, picture in enumerate(islice(pictures, number)):
        width = int(rng.integers(500, 1025))
        image = ImageOps.fit(Image.fromarray(picture), (width, round(width * 3 / 4)))
        image.save(folder / f"{index:05d}.jpg", quality=90)


_barrier: "Barrier | None" = None


def _seconds(way: Way, folder: Path, cache: Path, batches: int, consumers: int) -> float:
    """From when all consumers set out until the last is done; their start-up does not count."""
    context = get_context("spawn")
    barrier = context.Barrier(consumers)
    jobs = [Job(folder / "pictures", cache, batches, seed) for seed in range(consumers)]
    with ProcessPoolExecutor(consumers, context, _get_ready, (barrier,)) as executor:
        spans = list(executor.map(partial(_consume, way), jobs))
    return max(end for _, end in spans) - min(start for start, _ in spans)


def _get_ready(barrier: "Barrier") -> None:
    global _barrier
    _barrier = barrier
    cv2.setNumThreads(1)


def _consume(way: Way, job: Job) -> tuple[float, float]:
    """Take all batches; when the first was asked for and when the last was there."""
    batches = way(job)
    assert _barrier is not None
    _barrier.wait(_PATIENCE)
    start = time.monotonic()
    for _ in batches:
        pass
    return start, time.monotonic()
