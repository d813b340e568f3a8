"""Paths that a user names and files found below them, whatever they turn out to be."""

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from clapp.errors import UserError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def expanded(path: str) -> Path:
    """An absolute path; `~` and `~user` are home folders.

    Raises:
        UserError: there is no such home folder.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(
            f"{path}: the home folder {Path(path).parts[0]} is not known; write the whole path, "
            f"or ./{path} for a folder of that name"
        ) from error


def kind_of(path: Path, expected: str = "file or folder") -> str:
    """What lies at `path`, after links: "a file", "a folder", "a named pipe" and so on.

    `expected` is what the message calls it where nothing lies there.

    Raises:
        UserError: nothing does, or it cannot be told.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        link = path.is_symlink()
        reason = "its link leads nowhere" if link else f"there is no such {expected}"
        raise UserError(f"{path}: {reason}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL, or characters that no file name here can have
        raise UserError(f"{str(path)!r}: cannot be a path: {error}") from error
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def is_folder(path: Path) -> bool:
    """Whether a folder lies at `path`, after links; False where that cannot be told."""
    try:
        return kind_of(path) == "a folder"
    except UserError:
        return False


def read_file(path: Path) -> bytes:
    """What a file holds. Never waits, as reading a named pipe would.

    Raises:
        ValueError: it is no file or is empty; the message is the end of a sentence.
        OSError: it cannot be read.
    """
    try:
        kind = kind_of(path)
        if kind == "a file":
            # Not to wait either if it became a pipe since.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                content = file.read()
    except UserError as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from error
    except OSError as error:
        raise OSError(error.strerror) from error
    if kind != "a file":
        raise ValueError(f"it is {kind}, not a file")
    if not content:
        raise ValueError("the file is empty")
    return content


def real(path: Path | str) -> Path:
    """`path` without links, as far as it exists; `path` where that cannot be told."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(path)


def nested(one: Path, other: Path) -> bool:
    """Whether one of two real folders is the other or lies in it."""
    return one == other or one in other.parents or other in one.parents


def listing_digest(root: Path, files: Iterable[Path]) -> str:
    """A digest of the names, sizes and times of change of files below `root`."""
    digest = hashlib.sha256()
    for file in files:
        try:
            state = file.stat()
            found: tuple[int, ...] = (state.st_size, state.st_mtime_ns)
        except OSError as error:  # gone, or a link that leads nowhere
            found = (error.errno or 0,)
        digest.update(repr((file.relative_to(root).as_posix(), *found)).encode())
    return digest.hexdigest()
