"""What every benchmark shares: variants in turn, peak memory, the machine, the result."""

import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from clapp.errors import ClappError
from clapp.system.process import cores

_SAMPLE_SECONDS = 0.05
_WIDTH = 160  # characters of a table in a file
_PROC = Path("/proc")
_PACKAGES = {
    "torch": "torch",
    "cv2": "opencv-python",
    "onnxruntime": "onnxruntime",
    "optuna": "optuna",
}

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    Attributes:
        rows: a variant each: its `name` and its figures, whose keys name their units.
        ratios: peer over ours, so that above 1 is better.
    """

    rows: list[Row]
    ratios: dict[str, float]

    def document(self) -> dict[str, Any]:
        """The result and the machine it was measured on, as for JSON."""
        return {"rows": self.rows, "ratios": self.ratios, "machine": machine()}

    def print(self) -> None:
        """A table on stdout, the ratios and the machine below it."""
        from rich.console import Console
        from rich.table import Table

        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        table = Table(box=None, header_style="bold")
        for column in columns:
            justify: Any = "left" if column == "name" else "right"
            table.add_column(column.replace("_", " "), justify=justify, no_wrap=column == "name")
        for row in self.rows:
            table.add_row(*(_shown(row.get(column)) for column in columns))
        console = Console(width=None if sys.stdout.isatty() else _WIDTH)
        console.print(table)
        for name, value in self.ratios.items():
            console.print(f"{name}: {value:.3g} times", highlight=False)
        here = machine()
        console.print(
            f"{here['processor']}, {here['cores']} cores, {here['memory_bytes'] / 2**30:.0f} GiB; "
            f"torch {here['torch']}",
            highlight=False,
        )


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def in_turn(runs: Mapping[str, Callable[[], dict[str, float]]], repeats: int) -> list[Row]:
    """Run the variants one after another, the whole round `repeats` times.

    In this order whatever else the machine does in the meantime hits all of them alike.

    Args:
        runs: by name; each returns its figures, the same keys every time.
        repeats: at least 1.

    Returns:
        A row for each variant, in their order: its name and the median of each figure.
    """
    from loguru import logger

    found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for round_ in range(1, repeats + 1):
        for name, run in runs.items():
            logger.info(f"round {round_} of {repeats}: {name}")
            found[name].append(run())
    return [{"name": name, **_medians(figures)} for name, figures in found.items()]


def _medians(figures: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(each[key] for each in figures) for key in figures[0]}


def figure(rows: list[Row], name: str, key: str) -> float:
    """One figure of the row called `name`."""
    return float(next(row for row in rows if row["name"] == name)[key])


def in_process(function: Callable[..., T], *args: Any) -> tuple[T, int]:
    """Call a function of a module in a fresh process.

    Returns:
        Its result, and the most bytes that the process and its children held at once in memory:
        sampled, pages they share counted once.

    Raises:
        ClappError: the process was killed.
        Exception: whatever the function raised.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        try:
            pid = executor.submit(os.getpid).result()
            future = executor.submit(function, *args)
            peak = 0
            while not wait_for([future], timeout=_SAMPLE_SECONDS).done:
                peak = max(peak, _resident(pid))
            result = future.result()
            return result, max(peak, executor.submit(_own_peak).result())
        except BrokenProcessPool as error:
            raise ClappError(f"{function.__name__}: its process was killed") from error


def _resident(root: int) -> int:
    """Bytes that process `root` and its children hold in memory together; 0: cannot be known."""
    tree = _tree(root)
    # A process's own figure is cheap, and right where there are no others to share pages with;
    # the proportional one has the kernel walk all its pages.
    return sum(map(_proportional, tree)) if len(tree) > 1 else _whole(root)


def _tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        try:
            # The name, in brackets, may hold anything; the parent is the second field after it.
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it ended in the meantime
        parents.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for pid in tree:  # grows while it is gone through
        tree += parents.get(pid, [])
    return tree


def _proportional(pid: int) -> int:
    """Resident bytes, shared pages divided among those who share them."""
    return _kilobytes(_PROC / str(pid) / "smaps_rollup", "Pss:") or _whole(pid)


def _whole(pid: int) -> int:
    """Resident bytes, shared pages in full."""
    return _kilobytes(_PROC / str(pid) / "status", "VmRSS:")


def _kilobytes(path: Path, key: str) -> int:
    """The bytes of the line of `path` that begins with `key`, 0 where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def _own_peak() -> int:
    """The most bytes this process ever held; catches what was over between two samples."""
    high_water = _kilobytes(_PROC / "self" / "status", "VmHWM:")
    if high_water or _PROC.is_dir():
        return high_water
    import resource

    # Not on Linux: there it starts with what the parent held. macOS counts bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def machine() -> dict[str, Any]:
    """What the figures were measured on; `device` is the name of the first GPU, or None."""
    import torch

    from clapp.training.provenance import processor

    return {
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(package) for name, package in _PACKAGES.items()},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
