"""A study's journal: one file to which each process appends what it changes.

This is Optuna's JournalStorage. A new trial is one line of it, where a database takes one or two
statements for each parameter (docs/performance.md, "A trial beside its training"). Optuna's lock is
a file, which a killed process leaves behind; ours is the kernel's, and ends with its process.
"""

import fcntl
import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

SYNC_SECONDS = 1.0
"""How often a process waits for the disk. A killed process loses nothing, whatever this is, and a
power failure loses about as much."""
_BLOCK = 1 << 16


def open_journal(path: Path) -> JournalStorage:
    """Open the journal at `path`, and make it if it does not exist.

    Raises:
        StorageInternalError: it cannot be made or read, or is no journal.
    """
    with _refusals():
        return JournalStorage(JournalFile(path))


class JournalFile(JournalFileBackend):
    """Optuna's file of a journal, with a lock that dies with its holder."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._synced = 0.0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read the changes from a number on; see Optuna.

        Raises:
            StorageInternalError: the file is gone, or is no journal.
        """
        with _refusals():
            yield from super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append changes, when no other process does.

        Raises:
            StorageInternalError: the disk is full, for example, or the file is gone; it is not
                made again.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with _refusals(), self._path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            if file.read(1) not in (b"", b"{"):
                raise ValueError("its first line is none of a journal")
            _cut_half_line(file)
            file.write(lines.encode())
            file.flush()
            if time.monotonic() >= self._synced + SYNC_SECONDS:
                os.fsync(file.fileno())
                self._synced = time.monotonic()


def _cut_half_line(file: BinaryIO) -> None:
    """Go to the end, without a last line that has none: its writer was killed, or the disk full."""
    end = whole = file.seek(0, os.SEEK_END)
    step = 1
    while whole > 0:
        start, step = max(0, whole - step), _BLOCK
        file.seek(start)
        newline = file.read(whole - start).rfind(b"\n")
        if newline >= 0:
            whole = start + newline + 1
            break
        whole = start
    if whole < end:
        file.truncate(whole)
    file.seek(whole)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn the errors of a file into that of a storage, which callers expect."""
    try:
        yield
    except FileNotFoundError:
        raise StorageInternalError("it was deleted while it was in use; put it back") from None
    except OSError as error:
        raise StorageInternalError(error.strerror or str(error)) from None
    except ValueError as error:  # of JSON, too
        raise StorageInternalError(f"it is no journal of Optuna: {error}") from None
