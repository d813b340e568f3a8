"""The process that fills a pool: `python -m clapp.pool.feeder FOLDER LOCK`.

LOCK is an inherited descriptor that holds the pool's feeder.lock. A pool has one feeder, and the
kernel releases the lock when the feeder ends. The job, {"data": ..., "side": ...}, comes on stdin,
because it may hold an access token. The feeder ends when the pool is complete or no longer used.
"""

import errno
import fcntl
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from importlib import import_module
from itertools import count, cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from loguru import logger

from clapp.config import DataConfig
from clapp.errors import UserError, one_line
from clapp.images import Source, open_source
from clapp.images.source import Picture
from clapp.pool.eviction import USERS
from clapp.pool.store import STATE, Slots, fit
from clapp.system.files import write_text

GRACE = 3.0  # seconds after which the feeder of an unused pool ends
_LOOK = 0.5  # seconds between looks for users, and between two writes of the state


class State:
    """The feeder's report in state.json, which is replaced atomically."""

    def __init__(self, folder: Path, slots: Slots) -> None:
        self.path, self.slots = folder / STATE, slots
        self.skipped: dict[str, str] = {}
        self._written = 0.0
        self._named = 0

    def write(self, error: dict[str, Any] | None = None) -> None:
        """Write the state now."""
        complete = self.slots.complete
        state = {
            "filled": self.slots.filled,
            "complete": complete,
            "source_size": self.slots.filled if complete else None,
            "skipped": self.skipped,
            "error": error,
        }
        write_text(self.path, json.dumps(state))
        self._written, self._named = time.monotonic(), len(self.skipped)

    def refresh(self) -> None:
        """Write the state if the last one is old, or if a picture was skipped since."""
        if len(self.skipped) > self._named or time.monotonic() - self._written > _LOOK:
            self.write()


def feed(data: DataConfig, slots: Slots, state: State) -> None:
    """Fill the pool, then replace a picture every `buffer_delay` seconds if that is set.

    Raises:
        UserError: the source cannot be read or holds nothing; the disk is full.
    """
    source = open_source(data)
    state.skipped = source.skipped.names
    pictures = source.epoch(0, start=slots.filled)
    _repair(source, data, slots)
    if not _fill(pictures, data, slots, state) or data.buffer_delay is None:
        slots.finish()
        return
    _replace(source, pictures, data, slots, state)


def _repair(source: Source, data: DataConfig, slots: Slots) -> None:
    """Fill the slots that a killed feeder left half written; at once, since a worker may wait."""
    torn = slots.torn()
    # The first pictures are available fastest.
    for number, picture in zip(torn, source.epoch(0) if torn else (), strict=False):
        _put(slots, number, picture, data.seed, number)


def _fill(pictures: Iterator[Picture], data: DataConfig, slots: Slots, state: State) -> bool:
    """Fill the free slots; returns whether the pool is full before the source ends."""
    for number in range(slots.filled, slots.capacity):
        picture = next(pictures, None)
        if picture is None:
            if not number:
                raise UserError(f"{data.name} ({data.split}): there are no pictures")
            return False
        _put(slots, number, picture, data.seed, number)
        state.refresh()
    return True


def _replace(
    source: Source, pictures: Iterator[Picture], data: DataConfig, slots: Slots, state: State
) -> None:
    """Put a new picture into the oldest slot every `buffer_delay` seconds."""
    assert data.buffer_delay is not None
    first = next(pictures, None)
    if first is None:  # the source fits into the pool exactly
        slots.finish()
        return
    rest = (picture for number in count(1) for picture in source.epoch(number))
    waiting = (picture for part in ([first], pictures, rest) for picture in part)
    for serial, (number, picture) in enumerate(
        zip(cycle(range(slots.capacity)), waiting, strict=False), start=slots.capacity
    ):
        time.sleep(data.buffer_delay)
        _put(slots, number, picture, data.seed, serial)
        state.refresh()


def _put(slots: Slots, number: int, picture: Picture, seed: int, serial: int) -> None:
    rng = np.random.default_rng([seed, serial])
    try:
        slots.put(number, fit(picture, slots.side, rng))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk is full after {number} pictures of the pool; "
            "make room, or set CLAPP_CACHE to another folder"
        ) from error


def _leave_when_unused(folder: Path) -> None:
    """End this process when no process has used the pool for `GRACE` seconds."""
    users = os.open(folder / USERS, os.O_RDWR)
    idle = 0.0
    while True:
        time.sleep(_LOOK)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            idle = 0.0
            continue
        idle += _LOOK
        if idle >= GRACE:
            os._exit(0)  # exit with both locks: a process that opens the pool now waits for them
        fcntl.flock(users, fcntl.LOCK_UN)


def main() -> None:
    """Entry point of the process."""
    folder = Path(sys.argv[1])
    os.set_inheritable(int(sys.argv[2]), False)  # child processes must not inherit the lock
    os.nice(10)
    cv2.setNumThreads(1)
    os.environ["USE_TORCH"] = "0"  # keep `datasets` from importing torch, which it does not need
    job = json.loads(sys.stdin.read())
    sys.path += [folder for folder in job["path"] if folder not in sys.path]
    for module in job["modules"]:  # these modules register sources from outside the package
        import_module(module)
    threading.Thread(target=_leave_when_unused, args=(folder,), daemon=True).start()
    data = DataConfig.model_validate(job["data"])
    slots = Slots(folder, data.max_buffer, job["side"], job["channels"])
    state = State(folder, slots)
    try:
        feed(data, slots, state)
        state.write()
    except UserError as error:
        state.write({"user": True, "message": str(error)})
    except Exception as error:
        traceback.print_exc()
        state.write({"user": False, "message": f"{type(error).__name__}: {one_line(error)}"})
    logger.info(f"{slots.filled} pictures are in the pool")
    # Streams of the `datasets` library leave threads behind that can hang a normal exit.
    os._exit(0)


if __name__ == "__main__":
    main()
