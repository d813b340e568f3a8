"""What every source of pictures offers, and the count of the pictures it had to leave out."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from clapp.config import DataConfig
from clapp.errors import ConfigError, one_line

Picture = NDArray[np.uint8]


class Skipped:
    """Pictures that could not be read, each named in the log once."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    @property
    def count(self) -> int:
        """How many different pictures were left out."""
        return len(self.names)

    def add(self, name: str, error: Exception) -> None:
        """Note that `name` is left out because of `error`."""
        if name not in self.names:
            self.names[name] = one_line(error)
            logger.warning(f"skipped a bad picture: {name}: {self.names[name]}")


class Source(Protocol):
    """A seeded source of RGB pictures, uint8 (H, W, 3) of any size."""

    skipped: Skipped

    def describe(self) -> str:
        """A short name for messages."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """JSON-able values that change whenever the pictures or their order would."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """Pass `number` over the pictures in its own seeded order, without the first `start`.

        Raises:
            UserError: the source cannot be read, or holds no readable picture.
        """
        ...


def stream(source: Source) -> Iterator[Picture]:
    """Epoch after epoch, without end."""
    for number in count():
        yield from source.epoch(number)


def check_split(data: DataConfig, allowed: Iterable[str]) -> str:
    """The split asked for.

    Raises:
        ConfigError: it is not one of `allowed`.
    """
    allowed = tuple(allowed)
    if data.split not in allowed:
        raise ConfigError(
            f"split {data.split!r} of {data.name} is not allowed; allowed: {', '.join(allowed)}"
        )
    return data.split


def listing_digest(root: Path, files: Iterable[Path]) -> str:
    """A digest of the names, sizes and times of change of files below `root`."""
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        entry = (file.relative_to(root).as_posix(), state.st_size, state.st_mtime_ns)
        digest.update(repr(entry).encode())
    return digest.hexdigest()
