"""`clapp doctor`: check that this machine can run searches, with one line for each need."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from clapp.commands.options import AsJson
from clapp.errors import ClappError
from clapp.system.console import is_live, print_json, status

_PACKAGES = ("torch", "optuna", "cv2", "numba", "onnxruntime")


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    works: bool
    text: str


def doctor(
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Storage URL; default: a file in the results.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    json: AsJson = False,
) -> None:
    """Check environment, device, cache, storage, write access and terminal; exit 1 if one fails."""
    with status("looking at this machine"):
        findings = list(examine(results, storage, device))
    if json:
        print_json([one._asdict() for one in findings])
    else:
        for name, works, text in findings:
            typer.echo(f"{'ok   ' if works else 'fails'}  {name:<12} {text}")
    raise typer.Exit(0 if all(one.works for one in findings) else 1)


def examine(results: Path, storage: str | None, device: str) -> Iterator[Finding]:
    """The results of all checks in order; the checks leave no files behind."""
    checks: dict[str, Callable[[], str]] = {
        "environment": _environment,
        "device": lambda: _device(device),
        "cache": _cache,
        "results": lambda: _results(results),
        "storage": lambda: _storage(results, storage),
        "terminal": _terminal,
    }
    for name, check in checks.items():
        try:
            yield Finding(name, True, check())
        except (ClappError, OSError, ImportError, RuntimeError) as error:
            words = " ".join(str(error).split()) or type(error).__name__
            yield Finding(name, False, words)


def _environment() -> str:
    from importlib import import_module

    versions = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {import_module(name).__version__}")
        except ImportError as error:
            raise ImportError(
                f"{name} cannot be imported: {error}; run `pip install -c constraints.txt .` again"
                + ("; apt-get install libgl1 libglib2.0-0" if name == "cv2" else "")
            ) from error
    from clapp import __version__

    return f"clapp {__version__}, Python {platform.python_version()}, {', '.join(versions)}"


def _device(name: str) -> str:
    import torch

    from clapp.training.device import resolve_device

    chosen = resolve_device(name)
    ones = torch.ones(1, 3, 8, 8, device=chosen)
    total = float(torch.nn.functional.conv2d(ones, torch.ones(1, 3, 3, 3, device=chosen)).sum())
    if total != 27 * 36:
        raise RuntimeError(f"{chosen}: a convolution of ones is wrong: {total:g}, not {27 * 36}")
    model = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else platform.machine()
    return f"{chosen} ({model}) computes; {_cores()} processor cores"


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _cache() -> str:
    from clapp.pool.eviction import cache_dir

    try:
        return _writable(cache_dir())
    except OSError as error:
        raise OSError(f"{error}; CLAPP_CACHE=FOLDER names another one") from error


def _results(folder: Path) -> str:
    try:
        return _writable(folder)
    except OSError as error:
        raise OSError(f"{error}; --results FOLDER names another one") from error


def _writable(folder: Path) -> str:
    """Test writing to `folder`, or to the folder where it would be created."""
    place = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise OSError(f"{place}: cannot be written: {error.strerror}") from error
    made = "" if place == folder.absolute() else ", to be made"
    return f"{folder.absolute()}{made}: writable, {shutil.disk_usage(place).free / 1e9:.1f} GB free"


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest existing folder above it."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise OSError(f"{place}: not a folder")
    return place


def _storage(results: Path, url: str | None) -> str:
    from clapp.study.storage.redaction import redact
    from clapp.study.storage.storage import default_url, open_storage

    if url is not None:
        studies = len(open_storage(url, create=False).get_all_studies())
        return f"{redact(url)}: answers, {studies} studies"
    with tempfile.TemporaryDirectory(dir=_nearest(results)) as folder:
        open_storage(default_url(Path(folder))).get_all_studies()
    return "a journal in the results: works there"


def _terminal() -> str:
    if not is_live(sys.stderr):
        return "none (or TERM, CI say so): progress comes in lines, for logs"
    columns, lines = shutil.get_terminal_size()
    colours = "no colours" if os.environ.get("NO_COLOR") else "colours"
    return f"{columns} x {lines}, {sys.stderr.encoding}, {colours}: the live display works"
