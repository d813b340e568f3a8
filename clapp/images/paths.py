"""Paths that a user names, and files found below them: expanded, classified, read, compared."""

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
    """The kind of file at `path`, after links: "a file", "a folder", "a named pipe" and so on.

    `expected` is the word of the error message where nothing is there.

    Raises:
        UserError: nothing is there, or the path cannot be read.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        link = path.is_symlink()
        reason = "its link leads nowhere" if link else f"there is no such {expected}"
        raise UserError(f"{path}: {reason}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL, or characters that file names cannot have here
        raise UserError(f"{str(path)!r}: cannot be a path: {error}") from error
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder, after links; False if that cannot be found out."""
    try:
        return kind_of(path) == "a folder"
    except UserError:
        return False


def read_file(path: Path) -> bytes:
    """The content of a file. Refuses named pipes, on which reading would wait.

    Raises:
        ValueError: it is no file or is empty; the message completes a sentence.
        OSError: it cannot be read.
    """
    try:
        kind = kind_of(path)
        if kind == "a file":
            # O_NONBLOCK: do not wait if it was replaced by a pipe since.
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
    """`path` with links resolved, as far as it exists; `path` itself if that fails."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(path)


def nested(one: Path, other: Path) -> bool:
    """Whether one of two real folders is the other or lies in it."""
    return one == other or one in other.parents or other in one.parents


def listing_digest(root: Path, files: Iterable[Path]) -> str:
    """A digest of the names, sizes and modification times of files below `root`."""
    digest = hashlib.sha256()
    for file in files:
        try:
            state = file.stat()
            found: tuple[int, ...] = (state.st_size, state.st_mtime_ns)
        except OSError as error:  # gone, or a link that leads nowhere
            found = (error.errno or 0,)
        digest.update(repr((file.relative_to(root).as_posix(), *found)).encode())
    return digest.hexdigest()
