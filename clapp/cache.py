"""The folder where pictures are kept between runs, and the locks on what lies in it.

Locks are flock(2) on open files: the kernel drops them when their process ends, however it ends.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clapp.errors import UserError

USERS = "users.lock"  # held shared by everyone who uses the folder it lies in


def cache_dir() -> Path:
    """CLAPP_CACHE, or `clapp` in the user's cache folder."""
    chosen = os.environ.get("CLAPP_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clapp"


def digest(values: Mapping[str, Any]) -> str:
    """A short name for what JSON-able `values` describe."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write below `path` into advice."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: the picture cache cannot be written: {error.strerror or error}; "
            "make room, or set CLAPP_CACHE to another folder"
        ) from error


def try_lock(path: Path) -> int | None:
    """A descriptor that holds `path` exclusively until it is closed; None while others hold it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def use(folder: Path) -> int:
    """Make `folder` and hold it against removal, until the descriptor returned is closed."""
    path = folder / USERS
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                os.utime(path)
                return descriptor
        except FileNotFoundError:
            continue  # removed between two of these lines
        os.close(descriptor)


def evict(root: Path, keep: Path, allowed: int) -> None:
    """Remove folders of `root` that nobody uses, the longest unused first.

    Args:
        root: holds the folders.
        keep: one of them that stays.
        allowed: bytes on the disk that the others may take together.
    """
    others = [folder for folder in root.iterdir() if folder.is_dir() and folder != keep]
    sizes = {folder: _bytes_on_disk(folder) for folder in others}
    total = sum(sizes.values())
    for folder in sorted(others, key=_last_use):
        if total <= allowed:
            return
        if _remove_unused(folder):
            total -= sizes[folder]


def _last_use(folder: Path) -> float:
    users = folder / USERS
    return users.stat().st_mtime if users.exists() else 0.0


def _bytes_on_disk(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir() if file.is_file())


def _remove_unused(folder: Path) -> bool:
    lock = try_lock(folder / USERS)
    if lock is None:
        return False
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
    return True
