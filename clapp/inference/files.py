"""Which files `clapp infer` reads and writes; each in its turn, what cannot be read left out."""

import glob
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from clapp.errors import UserError
from clapp.images.paths import expanded, is_folder, kind_of, real
from clapp.images.search import is_picture, search
from clapp.images.source import Skipped
from clapp.inference.picture import FileFilter, check_suffix
from clapp.inference.video import CODECS, filter_video, is_video
from clapp.system.progress import tell

STREAM = "-"
"""Standard input or output."""


class Task(NamedTuple):
    """One file to read and one to write.

    Attributes:
        source: a picture or video; None: a picture from standard input.
        target: None: standard output.
    """

    source: Path | None
    target: Path | None


class Outcome(NamedTuple):
    """How many files were filtered, and which were left out."""

    done: int
    skipped: Skipped


def filter_files(
    apply: FileFilter, inputs: Sequence[str], out: str, suffix: str = ".png"
) -> Outcome:
    """Filter pictures and videos.

    Args:
        apply: the model.
        inputs: files, folders that are searched recursively, patterns such as "photos/*.jpg", or
            "-" alone for a picture from standard input.
        out: one file for one file; a folder for several, in which files keep their names, and
            those of a folder their places; "-": standard output, for one picture.
        suffix: the format of pictures in a folder and on standard output.

    Raises:
        UserError: what is asked for cannot be, or the only file or all of them cannot be filtered.
    """
    check_suffix(Path(f"picture{suffix}"), apply.bits)
    tasks, single = plan(inputs, out, suffix)
    skipped = Skipped()
    for number, task in enumerate(tasks, start=1):
        if not single:
            tell(f"file {number} of {len(tasks)}: {task.source}")
        try:
            _filter(apply, task, suffix)
        except UserError as error:
            if single:
                raise
            text = str(error).removeprefix(f"{task.source}: ")
            skipped.add(str(task.source), UserError(text))
    if skipped.count == len(tasks):
        name, reason = next(iter(skipped.names.items()))
        raise UserError(f"none of {len(tasks)} files can be filtered; the first: {name}: {reason}")
    return Outcome(len(tasks) - skipped.count, skipped)


def _filter(apply: FileFilter, task: Task, suffix: str) -> None:
    if task.target is None:
        if sys.stdout.isatty():
            raise UserError("a picture is not written to a terminal: redirect standard output")
        apply.picture(task.source or sys.stdin.buffer.read(), sys.stdout.buffer, suffix)
        sys.stdout.buffer.flush()
    elif task.source is not None and is_video(task.source.name):
        filter_video(apply.frame, task.source, task.target)
    else:
        check_suffix(task.target, apply.bits)
        apply.picture(task.source or sys.stdin.buffer.read(), task.target)


def plan(inputs: Sequence[str], out: str, suffix: str) -> tuple[list[Task], bool]:
    """What to read and write, and whether it is one file that was named.

    Raises:
        UserError: a file that is not there, a pattern that matches none, several files for one
            target, or a target that is also read.
    """
    if len(inputs) == 1 and (inputs[0] == STREAM or not _is_many(inputs[0])):
        return [_only(inputs[0], out, suffix)], True
    if STREAM in (out, *inputs):
        raise UserError(f"{STREAM}: it stands for one picture; several files need a folder as OUT")
    folder = expanded(out)
    if folder.exists() and not is_folder(folder):
        raise UserError(f"{out}: is {kind_of(folder)}; several files need a folder as OUT")
    found: dict[Path, Path] = {}
    for text in inputs:
        found |= {s: r for s, r in _matching(text, folder).items() if s not in found}
    targets = _targets(found, folder, suffix)
    read = {real(source) for source in targets}
    for target in targets.values():
        if real(target) in read:
            raise UserError(f"{target}: it is read too; choose another folder than {out}")
    return [Task(source, target) for source, target in targets.items()], False


def _is_many(text: str) -> bool:
    """Whether it names a folder or a pattern."""
    path = expanded(text)
    return is_folder(path) or (glob.has_magic(text) and not path.exists())


def _only(text: str, out: str, suffix: str) -> Task:
    source = None if text == STREAM else Path(text)
    if out == STREAM:
        if source is not None and is_video(source.name):
            raise UserError(f"{source}: a video is not written to standard output")
        return Task(source, None)
    target = Path(out)
    if is_folder(target) or out.endswith("/"):
        if source is None:
            raise UserError(f"{out}: what standard input holds has no name; name a file")
        target = target / _renamed(Path(source.name), suffix)
    return Task(source, target)


def _matching(text: str, out: Path) -> dict[Path, Path]:
    """The files that an argument stands for, and what each is called below OUT."""
    path = expanded(text)
    if is_folder(path):
        files = sorted(search(path, lambda name: is_picture(name) or is_video(name)).values())
        found = {
            file: file.relative_to(path)
            for file in files
            if out == path or out not in file.parents  # results of an earlier run
        }
        if not found:
            raise UserError(f"{text}: there are no pictures or videos in it")
        return found
    if not _is_many(text):
        return {path: Path(path.name)}
    matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207 - absolute
    found = {match: Path(match.name) for match in matches if not is_folder(match)}
    if not found:
        raise UserError(f"{text}: no file matches")
    return found


def _targets(found: dict[Path, Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """Where each goes; of files that differ in their suffix only, it stays before the new one."""
    count = Counter(_renamed(name, suffix) for name in found.values())
    targets: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for source, name in found.items():
        plain = _renamed(name, suffix)
        target = folder / (plain if count[plain] == 1 else f"{name}{plain.suffix}")
        if target in taken:
            raise UserError(f"{source} and {taken[target]} would both be written to {target}")
        targets[source] = target
        taken[target] = source
    return targets


def _renamed(name: Path, suffix: str) -> Path:
    if not is_video(name.name):
        return name.with_suffix(suffix)
    return name if name.suffix.lower() in CODECS else name.with_suffix(".mkv")


def allow_any_size() -> None:
    """Let Pillow read pictures of any size in this process: the user named them."""
    Image.MAX_IMAGE_PIXELS = None
