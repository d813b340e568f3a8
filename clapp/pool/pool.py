"""The pool: pictures decoded once, kept in a memory-mapped store that all workers share.

A pool lies in the cache folder and remains after the run. Its name is a hash of its source. A
process that opens an incomplete pool starts a feeder (`clapp.pool.feeder`) unless one is running.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from loguru import logger

from clapp.config import DataConfig
from clapp.errors import FeederError, UserError
from clapp.images import SOURCES, open_source
from clapp.images.source import Picture, named
from clapp.pool.eviction import FEEDER, cache_dir, digest, discard, evict, try_lock, use, writing
from clapp.pool.store import FORMAT, STATE, Slots, is_outdated
from clapp.pool.validation import validation_set as validation_set
from clapp.system.process import command
from clapp.system.progress import tell

LIMIT = 8 * 2**30
"""Bytes on disk that all pools together may take; unused pools are removed to stay below."""
_POLL = 0.02  # seconds between two looks while waiting
_LOOK = 1.0  # seconds between two looks for a feeder that replaces pictures
_TELL_EVERY = 0.5  # seconds of waiting
_LOG_AFTER, _LOG_EVERY = 2.0, 15.0


class Pool:
    """The pictures of one source, uint8 (H, W, channels) with shorter side `side`; use `Pool.open`.

    Attributes:
        waited: seconds spent waiting for the feeder to decode pictures.
    """

    def __init__(
        self,
        folder: Path,
        data: DataConfig,
        side: int,
        name: str,
        users: int,
        channels: int = 3,
    ) -> None:
        self.folder, self.data, self.side, self.name = folder, data, side, name
        self._users: int | None = users
        self.channels = channels
        self._slots = Slots(folder, data.max_buffer, side, channels)
        self._guard = threading.Lock()
        self.waited = 0.0
        self._watching = False  # whether a feeder has run since this pool was opened
        self._writes_at_start = self._slots.writes
        self._looked = 0.0
        self._deaths = 0  # deaths of feeders since the last progress
        self._reporting = False
        self._reported: set[str] = set()

    @classmethod
    def open(cls, data: DataConfig, stages: int) -> Self:
        """Open the pool of a source; it still holds the pictures of earlier runs.

        Args:
            data: the source, the pool's bounds, and the size of the first stage.
            stages: resolutions it must serve; each doubles the shorter side.

        Raises:
            UserError: the source or the cache folder cannot be used.
        """
        source = open_source(data)
        side = data.resize_base * 2 ** (stages - 1)
        values = {
            "format": FORMAT,
            "source": source.fingerprint(),
            "side": side,
            "capacity": data.max_buffer,
            "seed": data.seed,
            "replaced": data.buffer_delay is not None,
        }
        channels: int = getattr(source, "channels", 3)
        root = cache_dir() / "pool"
        folder = root / digest(values)
        with writing(root):
            if is_outdated(folder):
                discard(folder)
            users = use(folder)
            try:
                pool = cls(folder, data, side, source.describe(), users, channels)
                pool._prepare(root)
            except BaseException:
                os.close(users)  # otherwise a feeder would keep running for a pool that nobody uses
                raise
        return pool

    def _prepare(self, root: Path) -> None:
        if not self._slots.filled:
            allowed = LIMIT - self.data.max_buffer * self._slots.slot
            evict(root, self.folder, allowed, is_outdated)
        if not self._slots.complete:
            self._tend()

    def close(self) -> None:
        """Stop using the pool. Its feeder ends soon after the last process has closed it."""
        if self._users is not None:
            self._report_skipped()
            self._slots.close()
            os.close(self._users)
            self._users = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, number: int) -> Picture:
        return self._slots[number]

    @property
    def state(self) -> dict[str, Any]:
        """The last state that the feeder wrote: filled, complete, source_size, skipped, error."""
        try:
            state: dict[str, Any] = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return state

    def pictures(self, wanted: int) -> int:
        """The number of pictures to draw from: `wanted`, or all if the source has fewer.

        Waits until they are decoded, so the number does not depend on the feeder's speed.

        Raises:
            UserError: the source cannot be read.
            FeederError: the feeder died twice without adding a picture.
        """
        wanted = min(wanted, self.data.max_buffer)
        if self._slots.filled < wanted and not self._slots.complete:
            with self._guard:
                self._wait(wanted)
        elif self.data.buffer_delay is not None and time.monotonic() > self._looked + _LOOK:
            with self._guard:
                self._look()
        return min(wanted, self._slots.filled)

    def _look(self) -> None:
        """Restart the feeder if it should replace pictures and has ended."""
        self._looked = time.monotonic()
        if self._users is not None and not self._slots.complete:
            self._tend()

    def cut(self, number: int, down: float, across: float, side: int) -> Picture:
        """Cut a square of `side` pixels from a picture; its position is two fractions below one.

        Returns:
            uint8 (side, side, channels): a view, or a copy where pictures may be replaced.

        Raises:
            UserError, FeederError: see `pictures`.
        """
        if self.data.buffer_delay is None:
            return _square(self._slots[number], down, across, side)
        start = time.monotonic()
        while True:
            found = self._slots.steady(number)
            if found is not None:
                picture, stamp = found
                square = _square(picture, down, across, side).copy()
                if self._slots.stamp(number) == stamp:
                    return square
            elif time.monotonic() > start + _POLL:  # writing takes less than a millisecond
                with self._guard:
                    self._await_repair()

    def _await_repair(self) -> None:
        """Wait until a feeder has replaced a picture that a killed one left half written."""
        if self._users is None:
            raise FeederError(f"{self.name}: the pool was closed while a picture was awaited")
        self._tend()
        time.sleep(_POLL)

    def _wait(self, wanted: int) -> None:
        start, told = time.monotonic(), 0.0
        log = start + _LOG_AFTER
        while self._slots.filled < wanted and not self._slots.complete:
            if self._users is None:
                raise FeederError(f"{self.name}: the pool was closed while pictures were awaited")
            self._tend()
            now, there = time.monotonic(), f"{self._slots.filled} of {wanted}"
            if now > told + _TELL_EVERY:
                told = now
                tell(f"waiting for pictures: {there}")
            if now > log:
                log += _LOG_EVERY
                logger.info(f"waiting for pictures: {there} are there ({self.name})")
            time.sleep(_POLL)
        self.waited += time.monotonic() - start
        self._report_skipped()

    def _tend(self) -> None:
        """Start a feeder if none runs; raise the error of a feeder that has ended with one."""
        lock = try_lock(self.folder / FEEDER)
        if lock is None:
            self._watching = True
            return
        try:
            if self._slots.complete:
                return
            if self._watching:
                self._judge()
            self._start(lock)
        finally:
            os.close(lock)

    def _judge(self) -> None:
        """Raise the error of a feeder that has ended, unless starting it again may help."""
        self._report_skipped()
        error = self.state.get("error")
        if error:
            message = error["message"]
            raise UserError(message) if error["user"] else FeederError(f"{self.name}: {message}")
        progress = self._slots.writes > self._writes_at_start
        self._deaths = 1 if progress else self._deaths + 1
        if self._deaths > 1:
            log = self.folder / "feeder.log"
            raise FeederError(
                f"{self.name}: the process that loads the pictures died twice; {_tail(log)}"
            )

    def _start(self, lock: int) -> None:
        """Start a feeder that inherits the descriptor `lock`, and with it the lock."""
        (self.folder / STATE).unlink(missing_ok=True)  # forget the error of an earlier feeder
        data = self.data.model_copy(update={"target_filter": None})
        job = {
            "data": data.model_dump(include=set(DataConfig.model_fields)),
            "side": self.side,
            "channels": self.channels,
            "modules": _modules(data),
            "path": [str(Path(folder).absolute()) for folder in sys.path],
        }
        with (self.folder / "feeder.log").open("wb") as log:
            process = subprocess.Popen(
                command("clapp.pool.feeder", str(self.folder), str(lock)),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C in the terminal must not reach it
            )
        # A thread waits for its end, so that it does not remain as a zombie.
        threading.Thread(
            target=process.communicate, args=(json.dumps(job).encode(),), daemon=True
        ).start()
        self._watching = self._reporting = True
        self._writes_at_start = self._slots.writes

    def _report_skipped(self) -> None:
        """Log pictures that could not be read. Only the process that started the feeder does so."""
        if not self._reporting:
            return
        skipped = self.state.get("skipped", {})
        for name in skipped.keys() - self._reported:
            logger.warning(f"skipped a bad picture: {name}: {skipped[name]}")
        self._reported |= skipped.keys()


def _square(picture: Picture, down: float, across: float, side: int) -> Picture:
    top = int(down * (picture.shape[0] - side + 1))
    left = int(across * (picture.shape[1] - side + 1))
    return picture[top : top + side, left : left + side]


def _modules(data: DataConfig) -> list[str]:
    """The modules outside the package that the sources in `data.name` come from."""
    modules = []
    for source in named(data):
        kind = SOURCES[source.kind]
        module: str = getattr(kind, "__module__", type(kind).__module__)
        if module == "__main__":
            raise UserError(
                f"{data.name}: the source {source.kind!r} is defined in the script that runs; "
                "define and register it in a module that the script imports"
            )
        if module.partition(".")[0] != "clapp":
            modules.append(module)
    return modules


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"the end of {log}: {lines[-1] if lines else '(empty)'}"
