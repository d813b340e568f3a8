"""Measurements that no other worker on this machine disturbs.

Two locks on files that all workers of a user on a machine share: whoever works holds `floor`
together with the others; whoever measures takes `gate`, then `floor` alone. A worker that finds
`gate` taken gives `floor` back until it is free. The kernel frees the locks of a killed process.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Alone:
    """The locks, as one worker holds them."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or Path(tempfile.gettempdir(), f"clapp-alone-{os.getuid()}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT
        self._gate, self._floor = (os.open(folder / n, flags, 0o600) for n in ("gate", "floor"))
        self._working = False

    def __del__(self) -> None:
        for descriptor in (self._gate, self._floor):
            os.close(descriptor)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Work together with others, once nobody measures."""
        self._enter()
        self._working = True
        try:
            yield
        finally:
            self._working = False
            fcntl.flock(self._floor, fcntl.LOCK_UN)

    def rest(self) -> None:
        """Stand still while somebody measures; to be called often by whoever works."""
        try:
            fcntl.flock(self._gate, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        except BlockingIOError:
            fcntl.flock(self._floor, fcntl.LOCK_UN)
            self._enter()

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Be the only one at work."""
        fcntl.flock(self._floor, fcntl.LOCK_UN)
        try:
            fcntl.flock(self._gate, fcntl.LOCK_EX)
            fcntl.flock(self._floor, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(self._floor, fcntl.LOCK_UN)
            fcntl.flock(self._gate, fcntl.LOCK_UN)
            if self._working:
                self._enter()

    def _enter(self) -> None:
        fcntl.flock(self._gate, fcntl.LOCK_SH)
        fcntl.flock(self._floor, fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
