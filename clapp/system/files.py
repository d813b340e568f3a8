"""Files: where packaged data lie, atomic writes, JSON, and mappings read from YAML."""

import codecs
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clapp.errors import ConfigError, UserError
from clapp.system.strict_yaml import parse_yaml

PACKAGE = Path(__file__).parents[1]


def data_dir(name: str) -> Path:
    """The folder `name` (studies, search_spaces) of an installed package or of a clone."""
    installed = PACKAGE / name
    return installed if installed.is_dir() else PACKAGE.parent / name


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it on success and vanishes on failure.

    A reader, or a run that follows a kill, sees the old file or the whole new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Cut to the length that file names may have. The suffix stays: Pillow takes the format from it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp made it 0600
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(out: Path, kind: str, is_one: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield a temporary folder beside `out` that becomes `out` on success and vanishes otherwise.

    Args:
        kind: what the folder holds, such as "export", for the message.
        is_one: whether a folder holds such a thing, which may be replaced; so may an empty folder.

    Raises:
        UserError: `out` cannot be written, or holds something else.
    """
    out = out.absolute()
    if out.exists() and not (out.is_dir() and (is_one(out) or not any(out.iterdir()))):
        raise UserError(f"{out}: is there already and is no {kind}; choose another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
    try:
        (workshop / "new").mkdir()  # the temporary folder is readable by its owner only
        yield workshop / "new"
        if out.exists():
            out.rename(workshop / "old")
        (workshop / "new").rename(out)
    finally:
        shutil.rmtree(workshop)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        UserError: the file cannot be read.
        ConfigError: it is not YAML, is empty, or holds something other than a mapping.
    """
    value = parse_yaml(_text(path), str(path))
    if value is None:
        raise ConfigError(f"{path}: the file is empty; a mapping of keys is expected")
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: a mapping of keys is expected, not {shown(value)}")
    return value


def shown(value: Any) -> str:
    """`value` for a message, cut where it is long; null, true and false as in files."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write whole numbers of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark, as YAML allows."""
    try:
        content = path.read_bytes()
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if marked else "utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: cannot be read: not UTF-8 text") from error


def dump_json(value: Any) -> str:
    """`value` as JSON; NaN and infinity, which JSON does not have, become null."""
    return json.dumps(_finite(value), indent=1)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
