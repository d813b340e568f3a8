"""The pool's store: fixed-size slots of uint8 pixels in one sparse file, and an index beside it.

All processes map both into memory, and one of them writes. It writes a slot's entry in the index
after the pixels, so readers never count a picture that a killed writer left half written.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clapp.images.decode import Picture, shorter_side_to

FORMAT = 2  # raise it when the layout or the decoding changes: older pools are then removed
STATE = "state.json"  # the feeder's state, beside the index
MAX_ASPECT = 2  # largest ratio of sides of a stored picture; longer ones are cropped
_INDEX = "index.i64"
# Places in the index; row i + 1 is (stamp, height, width).
_FILLED, _COMPLETE, _FORMAT = (0, 0), (0, 1), (0, 2)


class Slots:
    """`capacity` pictures whose shorter side is `side` pixels, in a folder.

    Raises:
        OSError: the files cannot be made.
    """

    def __init__(self, folder: Path, capacity: int, side: int, channels: int = 3) -> None:
        self.capacity, self.side, self.channels = capacity, side, channels
        self.slot = side * side * MAX_ASPECT * channels  # bytes
        index, pixels = folder / _INDEX, folder / "pictures.u8"
        index_bytes = (capacity + 1) * 3 * 8
        self._descriptor = os.open(pixels, os.O_RDWR | os.O_CREAT, 0o666)
        if os.fstat(self._descriptor).st_size != capacity * self.slot:
            os.ftruncate(self._descriptor, capacity * self.slot)
        with index.open("ab") as file:
            # Write zeros: writing to a mapped hole on a full disk would raise SIGBUS instead of an
            # error. Appended: what another process wrote in the meantime stays.
            file.write(bytes(max(0, index_bytes - file.tell())))
            file.flush()
            file.truncate(index_bytes)
        self._index: NDArray[np.int64] = np.asarray(
            np.memmap(index, np.int64, "r+", shape=(capacity + 1, 3))
        )
        self._pixels: Picture = np.asarray(
            np.memmap(pixels, np.uint8, "r", shape=(capacity, self.slot))
        )
        self._index[_FORMAT] = FORMAT

    def close(self) -> None:
        """Close the file; arrays that were returned stay valid."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def filled(self) -> int:
        """The number of slots that hold a picture; these are the first slots."""
        return int(self._index[_FILLED])

    @property
    def complete(self) -> bool:
        """Whether the feeder will add no more pictures."""
        return bool(self._index[_COMPLETE])

    @property
    def writes(self) -> int:
        """The number of pictures written so far, which shows whether a feeder makes progress."""
        return int(self._index[1:, 0].sum() // 2)

    def finish(self) -> None:
        """Mark the pool as complete."""
        self._index[_COMPLETE] = 1

    def __getitem__(self, number: int) -> Picture:
        """Picture `number` as a view, uint8 (H, W, channels)."""
        _, height, width = self._index[number + 1].tolist()
        return self._view(number, height, width)

    def _view(self, number: int, height: int, width: int) -> Picture:
        size = height * width * self.channels
        return self._pixels[number, :size].reshape(height, width, self.channels)

    def steady(self, number: int) -> tuple[Picture, int] | None:
        """Picture `number` and its stamp. A copy is intact if `stamp` is the same afterwards.

        Returns None while the picture is being replaced, or if a killed writer left it half
        written.
        """
        stamp, height, width = self._index[number + 1].tolist()
        if stamp % 2 or self.stamp(number) != stamp:
            return None
        return self._view(number, height, width), stamp

    def torn(self) -> list[int]:
        """The slots that a killed writer left half written."""
        found: list[int] = np.flatnonzero(self._index[1 : self.filled + 1, 0] % 2).tolist()
        return found

    def put(self, number: int, picture: Picture) -> None:
        """Write a picture into a slot: the next free one, or one that is filled.

        Raises:
            OSError: the disk is full.
        """
        row = self._index[number + 1]
        row[0] += row[0] % 2 + 1  # odd while the pixels change, and after a writer was killed
        data = np.ascontiguousarray(picture).data
        os.pwrite(self._descriptor, data, number * self.slot)
        row[1:] = picture.shape[:2]
        row[0] += 1
        self._index[_FILLED] = max(self.filled, number + 1)

    def stamp(self, number: int) -> int:
        """The version of the slot's picture; odd while it is being written."""
        return int(self._index[number + 1, 0])


def is_outdated(folder: Path) -> bool:
    """Whether a folder holds pictures of another format than `FORMAT`."""
    try:
        with (folder / _INDEX).open("rb") as file:
            header = np.frombuffer(file.read(24), np.int64)
    except OSError:  # there is no index yet, or it was just removed
        return False
    return len(header) == 3 and bool(header[0]) and int(header[2]) != FORMAT


def fit(picture: Picture, side: int, rng: np.random.Generator) -> Picture:
    """Resize a picture for the store: shorter side `side`, longer side at most twice that.

    If the longer side exceeds this, it is cropped at a random position.
    """
    height, width = picture.shape[:2]
    reach = MAX_ASPECT * min(height, width)
    top = rng.integers(max(0, height - reach) + 1)
    left = rng.integers(max(0, width - reach) + 1)
    picture = picture[top : top + reach, left : left + reach]
    return shorter_side_to(np.ascontiguousarray(picture), side)
