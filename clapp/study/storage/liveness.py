"""Find out which workers are alive: each holds a lock on its own file until it ends or dies.

Process ids are no evidence: they are reused, and a container gives every run the same ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from clapp.pool.eviction import try_lock


def _lock(folder: Path, worker: str) -> FileLock:
    return FileLock(folder / f"{worker}.alive", timeout=0)


@contextmanager
def alive(folder: Path, worker: str) -> Iterator[None]:
    """Hold the lock of `worker`, which shows that it is alive, while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder, worker)
    try:
        with lock:
            yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)


def take_seat(folder: Path) -> tuple[int, int]:
    """Take the lowest number that no other driver of this folder holds.

    Returns:
        The number, and a descriptor; closing it releases the number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    locks = (try_lock(folder / f"driver-{number}.lock") for number in count())
    return next((number, lock) for number, lock in enumerate(locks) if lock is not None)


def is_known(folder: Path, worker: str) -> bool:
    """Whether `worker` was started on this results folder and has not ended normally."""
    return Path(_lock(folder, worker).lock_file).exists()


def is_alive(folder: Path, worker: str) -> bool:
    """Whether `worker` still runs."""
    if not is_known(folder, worker):
        return False
    try:
        with _lock(folder, worker):
            return False
    except Timeout:
        return True


def forget(folder: Path, worker: str) -> None:
    """Remove the lock file of a dead worker."""
    Path(_lock(folder, worker).lock_file).unlink(missing_ok=True)


def any_alive(folder: Path) -> bool:
    """Whether any worker of this folder still runs."""
    return any(is_alive(folder, path.stem) for path in folder.glob("*.alive"))
