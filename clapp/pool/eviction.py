"""The folder where pictures are cached between runs, locks on its subfolders, and their removal.

Locks are flock(2) on open files, which the kernel releases when a process ends for any reason.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clapp.errors import UserError

USERS = "users.lock"  # shared lock of every process that uses the folder
FEEDER = "feeder.lock"  # exclusive lock of the one process that fills the folder
_REMOVED = ".removed-"


def cache_dir() -> Path:
    """The cache folder: CLAPP_CACHE, or `clapp` in the user's cache folder.

    Raises:
        UserError: neither is set, and the user has no home folder.
    """
    chosen = os.environ.get("CLAPP_CACHE")
    if chosen:
        return Path(chosen).absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # the XDG specification says to ignore relative paths
        return shared / "clapp"
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() fails where there is none
    if not home.is_absolute():
        raise UserError(
            f"there is no home folder to keep pictures in (user id {os.getuid()}, HOME "
            f"{os.environ.get('HOME', 'not set')!r}); set HOME, or CLAPP_CACHE to a folder"
        )
    return home / ".cache" / "clapp"


def digest(values: Mapping[str, Any]) -> str:
    """A short hash of values that JSON can hold."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a UserError with advice where writing below `path` fails."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: the picture cache cannot be written: {error.strerror or error}; "
            "make room, or set CLAPP_CACHE to another folder"
        ) from error


def try_lock(path: Path) -> int | None:
    """Lock `path` exclusively. Returns a descriptor to close, or None while others hold it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def use(folder: Path) -> int:
    """Create `folder` and protect it from removal until the returned descriptor is closed."""
    path = folder / USERS
    while True:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # mkdir(exist_ok) would fail where it vanishes again
            folder.mkdir()
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # another process has removed it meanwhile
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is_at(path, descriptor):
            os.utime(descriptor)
            return descriptor
        os.close(descriptor)


def discard(folder: Path) -> None:
    """Remove a folder of another format.

    Raises:
        OSError: a process uses the folder.
    """
    if folder.is_dir() and not _remove_unused(folder):
        raise OSError(f"{folder.name} is in use by another version of CLAPP")


def evict(root: Path, keep: Path, allowed: int, outdated: Callable[[Path], bool]) -> None:
    """Remove unused folders of `root`: outdated ones first, then the least recently used.

    Several processes may do this at once, while others use folders.

    Args:
        root: the folder that holds them.
        keep: a folder that is never removed.
        allowed: bytes on disk that the others may take together.
        outdated: whether a folder is removed even if there is room.
    """
    lock = os.open(root.with_name(f"{root.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes that remove at once would remove too much
        for remains in root.glob(f"{_REMOVED}*"):  # left by a process that was killed
            shutil.rmtree(remains, ignore_errors=True)
        others = [folder for folder in root.iterdir() if folder.is_dir() and folder != keep]
        others = [folder for folder in others if not (outdated(folder) and _remove_unused(folder))]
        sizes = {folder: _bytes_on_disk(folder) for folder in others}
        total = sum(sizes.values())
        for folder in sorted(others, key=_last_use):
            if total <= allowed:
                return
            if _remove_unused(folder):
                total -= sizes[folder]
    finally:
        os.close(lock)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether `path` still leads to the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _last_use(folder: Path) -> float:
    try:
        return (folder / USERS).stat().st_mtime
    except OSError:
        return 0.0


def _bytes_on_disk(folder: Path) -> int:
    total = 0
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # other processes replace files meanwhile
            total += file.lstat().st_blocks * 512
    return total


def _remove_unused(folder: Path) -> bool:
    """Remove a folder unless a process uses it or its feeder runs."""
    locks: list[int] = []
    try:
        for name in (USERS, FEEDER):
            lock = try_lock(folder / name)
            if lock is None:
                return False
            locks.append(lock)
        # Rename it first, so that a process that opens the folder now makes a new one.
        removed = folder.with_name(f"{_REMOVED}{folder.name}")
        folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
    finally:
        for lock in locks:
            os.close(lock)
    return True
