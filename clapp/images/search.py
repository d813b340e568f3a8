"""Find the pictures below a folder: each file once, however many links lead to it."""

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from clapp.errors import UserError
from clapp.images.paths import is_folder, real


def search(root: Path, wanted: Callable[[str], bool] | None = None) -> dict[Path, Path]:
    """Every picture below `root`: its path without links -> its path.

    Links to files and folders are followed, except links to folders above `root`. Each folder is
    entered once, so a link back does not loop. Of several paths to one file, a path without links
    is taken, otherwise the first. Hidden files and folders are left out.

    Args:
        root: the folder.
        wanted: which names of files count; None: those whose extension Pillow can open.

    Raises:
        UserError: a folder cannot be read.
    """
    wanted = wanted or is_picture
    found: dict[Path, Path] = {}
    entered: set[Path] = set()
    links = _enter(root, found, entered, wanted)
    while links:
        path = links.popleft()
        target = real(path)
        if not is_folder(target):
            if wanted(path.name):
                found.setdefault(target, path)
        elif target not in entered and target not in real(root).parents:
            links += _enter(path, found, entered, wanted)
    return found


def _enter(
    top: Path, found: dict[Path, Path], entered: set[Path], wanted: Callable[[str], bool]
) -> deque[Path]:
    """Add the files below `top` that are reached without links; returns the links."""
    links: deque[Path] = deque()
    waiting = [(top, real(top))]
    while waiting:
        folder, target = waiting.pop()
        if target in entered:
            continue
        entered.add(target)
        for entry in _entries(folder):
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            if entry.is_symlink():
                links.append(path)
            elif entry.is_dir():
                waiting.append((path, target / entry.name))
            elif wanted(entry.name):
                found.setdefault(target / entry.name, path)
    return deque(sorted(links))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from error


def is_picture(name: str) -> bool:
    """Whether Pillow can open files with the extension of this name."""
    Image.init()  # loads the plugins of all formats; does nothing after the first time
    kind = Image.registered_extensions().get(Path(name).suffix.lower())
    return kind in Image.OPEN
