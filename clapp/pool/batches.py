"""Batches of training crops and their filtered targets, cut from a pool."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import cv2
import numpy as np

from clapp.filters.base import Target
from clapp.filters.learned.settings import PICTURE, drawn, joined
from clapp.filters.library import Filter
from clapp.images.decode import Picture
from clapp.pool.pool import Pool

Batch = tuple[Picture, Target | None]
"""Pictures, uint8 (B, S, S, 3), behind them a channel for each setting of the filter, and, if
wanted, targets (B, S, S) or (B, S, S, 3)."""
_FLIPS = (None, 0, 1, -1)  # codes of cv2.flip: none, upside down, mirrored, both


class Batches:
    """Crops of side `crop` from pictures whose shorter side is `base`, in random orientation.

    The filter is applied to the crop, so a target is what the filter returns for a picture of the
    crop's size. Without a filter the batches hold pictures only. Batch `index` draws
    from the first `min_buffer + index` pictures of the pool: it follows from seed, `base` and index
    alone, whatever the speed of the feeder.
    """

    def __init__(
        self, pool: Pool, target: Filter | None, batch_size: int, crop: int, base: int, seed: int
    ) -> None:
        self.pool, self.target = pool, target
        self.batch_size, self.crop, self.base, self.seed = batch_size, crop, base, seed
        self.region = round(crop * pool.side / base)  # side of a crop in stored pixels

    def get(self, index: int) -> Batch:
        """Batch `index`: pictures uint8 (B, crop, crop, 3 or more), and targets, see `Batch`.

        Raises:
            UserError: the source cannot be read, or the user's filter failed.
            FeederError: see `Pool.pictures`.
        """
        rng = np.random.default_rng([self.seed, self.base, index])
        there = self.pool.pictures(self.pool.data.min_buffer + index)
        numbers = rng.integers(there, size=self.batch_size).tolist()
        places = rng.random((self.batch_size, 2)).tolist()
        turns = rng.integers(8, size=self.batch_size).tolist()
        channels = self.pool.channels
        pictures = np.empty((self.batch_size, self.crop, self.crop, channels), np.uint8)
        for i, (number, (down, across), turn) in enumerate(
            zip(numbers, places, turns, strict=True)
        ):
            square = self.pool.cut(number, down, across, self.region)
            # The result of a filter that is known by results may depend on the orientation.
            self._place(square, 0 if channels > PICTURE else turn, pictures[i])
        if self.target is None:
            return pictures, None
        if self.target.settings:
            pictures = joined(pictures, drawn(self.target.settings, self.batch_size, rng))
        targets = np.stack([self.target(picture) for picture in pictures])
        seen = PICTURE + len(self.target.settings)
        return np.ascontiguousarray(pictures[..., :seen]), targets

    def _place(self, square: Picture, turn: int, out: Picture) -> None:
        """Write one crop into `out`, in one of the eight orientations."""
        if self.region != self.crop:
            size = (self.crop, self.crop)
            square = np.asarray(cv2.resize(square, size, interpolation=cv2.INTER_AREA))
        if turn >= 4:
            square = np.asarray(cv2.transpose(square))
        flip = _FLIPS[turn % 4]
        if flip is None:
            out[:] = square
        else:
            cv2.flip(square, flip, dst=out)

    def prefetch(self, start: int, workers: int) -> Generator[Batch, None, None]:
        """Yield batches from index `start` on, without end. Close the generator when done.

        Args:
            start: the first index.
            workers: threads that prepare batches ahead, in the same order; 0 prepares each in the
                calling thread when it is asked for.
        """
        if not workers:
            for index in count(start):
                yield self.get(index)
        waiting: deque[Future[Batch]] = deque()
        executor = ThreadPoolExecutor(workers, thread_name_prefix="batches")
        try:
            for index in count(start):
                waiting.append(executor.submit(self.get, index))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
        finally:
            executor.shutdown(cancel_futures=True)
