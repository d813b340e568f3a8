"""The pool's store: fixed-size slots of uint8 pixels in one sparse file, and an index beside it.

Both are memory-mapped and shared by every process. One process writes; a slot's entry in the index
is written after its pixels, so a killed writer leaves no half-written picture that counts.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clapp.images.decode import Picture, shorter_side_to

FORMAT = 1  # raise it when the layout changes: older pools are then not used
STATE = "state.json"  # what the feeder tells beyond the index
MAX_ASPECT = 2  # of a stored picture; longer ones are cut
_FILLED, _COMPLETE = (0, 0), (0, 1)  # places in the index; row i + 1 is (stamp, height, width)


class Slots:
    """`capacity` pictures whose shorter side is `side` pixels, in a folder.

    Raises:
        OSError: the files cannot be made.
    """

    def __init__(self, folder: Path, capacity: int, side: int) -> None:
        self.capacity, self.side = capacity, side
        self.slot = side * side * MAX_ASPECT * 3  # bytes
        index, pixels = folder / "index.i64", folder / "pictures.u8"
        index_bytes = (capacity + 1) * 3 * 8
        self._descriptor = os.open(pixels, os.O_RDWR | os.O_CREAT, 0o666)
        if os.fstat(self._descriptor).st_size != capacity * self.slot:
            os.ftruncate(self._descriptor, capacity * self.slot)
        with index.open("ab") as file:
            # Real zeros: a write to a mapped hole of a full disk would be a SIGBUS, not an error.
            # Appended: what another process wrote in the meantime stays.
            file.write(bytes(max(0, index_bytes - file.tell())))
            file.flush()
            file.truncate(index_bytes)
        self._index: NDArray[np.int64] = np.asarray(
            np.memmap(index, np.int64, "r+", shape=(capacity + 1, 3))
        )
        self._pixels: Picture = np.asarray(
            np.memmap(pixels, np.uint8, "r", shape=(capacity, self.slot))
        )

    def close(self) -> None:
        """Close the file; arrays handed out stay valid."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def filled(self) -> int:
        """How many slots hold a picture; they are the first ones."""
        return int(self._index[_FILLED])

    @property
    def complete(self) -> bool:
        """Whether no more pictures will come."""
        return bool(self._index[_COMPLETE])

    def finish(self) -> None:
        """Say that no more pictures will come."""
        self._index[_COMPLETE] = 1

    def __getitem__(self, number: int) -> Picture:
        """Picture `number` as a view, uint8 (H, W, 3)."""
        _, height, width = self._index[number + 1].tolist()
        return self._pixels[number, : height * width * 3].reshape(height, width, 3)

    def put(self, number: int, picture: Picture) -> None:
        """Write a picture into a slot: the next free one, or one that is filled.

        Raises:
            OSError: the disk is full.
        """
        row = self._index[number + 1]
        row[0] += row[0] % 2 + 1  # odd while the pixels change, also after a killed writer
        data = np.ascontiguousarray(picture).data
        os.pwrite(self._descriptor, data, number * self.slot)
        row[1:] = picture.shape[:2]
        row[0] += 1
        self._index[_FILLED] = max(self.filled, number + 1)

    def stamp(self, number: int) -> int:
        """Changes when the slot's picture does; odd while it is being written."""
        return int(self._index[number + 1, 0])


def fit(picture: Picture, side: int, rng: np.random.Generator) -> Picture:
    """A picture as it is stored: shorter side `side`, longer side at most twice that.

    What is longer is cut at a random place.
    """
    height, width = picture.shape[:2]
    reach = MAX_ASPECT * min(height, width)
    top = rng.integers(max(0, height - reach) + 1)
    left = rng.integers(max(0, width - reach) + 1)
    picture = picture[top : top + reach, left : left + reach]
    return shorter_side_to(np.ascontiguousarray(picture), side)
