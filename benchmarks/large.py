"""`clapp bench infer --large`: a large picture file filtered as a whole, and by tiles.

Each figure comes from a process of its own, which first filters a small picture: its memory then is
what "above idle" is counted from. Seconds are those of processors, so that other work on the
machine counts little. Two threads are compared by what two idle cores would take: the seconds of
reading the file, and then those of the busiest thread, at least half of all.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from benchmarks.infer import SMALL, photograph
from benchmarks.measure import Result, Row, figure, in_process, in_turn
from clapp.config import Config, load_config
from clapp.system.progress import told_to

WHOLE, TILES, TWO = "whole", "tiles", "tiles, 2 threads"
MEMORY = 256_000_000
_NO_LIMIT = 10**12
_SAMPLE_SECONDS = 0.02


class Picture(NamedTuple):
    """What one process is to filter.

    Attributes:
        model: a trial folder.
        source, out: picture files.
        size: height and width in pixels.
        memory: bytes of the budget.
    """

    model: Path
    source: Path
    out: Path
    size: int
    memory: int
    threads: int


def run(size: int, networks: list[str], repeats: int, *, whole: bool) -> Result:
    """Measure networks on one picture file.

    Args:
        size: of the square picture, pixels; it is a photograph, repeated.
        networks: of `NETWORKS`.
        repeats: rounds.
        whole: compare with the picture as a whole, which takes gigabytes.
    """
    ways = {TILES: (MEMORY, 1), TWO: (MEMORY, 2)} | ({WHOLE: (_NO_LIMIT, 1)} if whole else {})
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "in.png"
        write_picture(source, size)
        runs: dict[str, Callable[[], dict[str, float]]] = {}
        for network in networks:
            model = folder / network
            _save(model, NETWORKS[network]())
            for way, (memory, threads) in ways.items():
                picture = Picture(model, source, folder / "out.png", size, memory, threads)
                runs[f"{network}, {way}"] = partial(_measured, picture)
        rows = in_turn(runs, repeats)
    return Result(rows, _ratios(rows, networks, whole))


def _ratios(rows: list[Row], networks: list[str], whole: bool) -> dict[str, float]:
    ratios = {}
    for name in networks:
        tiles = figure(rows, f"{name}, {TILES}", "cpu_seconds")
        if whole:
            ratios[f"{name}: whole / tiles"] = (
                figure(rows, f"{name}, {WHOLE}", "cpu_seconds") / tiles
            )
        ratios[f"{name}: 1 thread / 2 threads"] = tiles / figure(
            rows, f"{name}, {TWO}", "critical_seconds"
        )
    return ratios


def write_picture(path: Path, size: int) -> None:
    """A PNG file of size x size pixels: a photograph of 1024x1024, side by side."""
    from clapp.images.formats.write import write_png

    tile = photograph(1024)
    row = np.concatenate([tile] * -(-size // 1024), axis=1)[:, :size]
    strips = [row[: min(1024, size - top)] for top in range(0, size, 1024)]
    with path.open("wb") as file:
        write_png(file, strips, (size, size, 3), 8)


def _save(folder: Path, config: Config) -> None:
    from clapp.models.build import build_model
    from clapp.training.folder import save_config, save_weights

    folder.mkdir()
    save_config(folder, config)
    save_weights(folder, build_model(config.model).eval())


def _config(**model: object) -> Config:
    return load_config({"model": model})


NETWORKS: dict[str, Callable[[], Config]] = {
    "local": lambda: _config(capacity=4, num_layers=2, norm="none"),
    "over its maximum": lambda: _config(**SMALL),
    "reference": load_config,
    "global": lambda: _config(family="global"),
    "unet": lambda: _config(family="unet"),
}
"""No statistics; the form of sobel_3; the hand-tuned architecture with its normalisations."""


def _measured(picture: Picture) -> dict[str, float]:
    return in_process(filter_file, picture)[0]


def filter_file(picture: Picture) -> dict[str, float]:
    """Filter a file in this process, and say what it took."""
    from clapp.inference.files import allow_any_size
    from clapp.inference.picture import FileFilter, filter_picture
    from clapp.inference.runner import open_runner
    from clapp.system.process import prepare_process

    prepare_process(threads=1)
    allow_any_size()
    runner = open_runner(picture.model)
    if picture.memory == _NO_LIMIT:
        runner.parts = None  # which would be computed tile by tile all the same
    filter_picture(runner, photograph(64))
    apply = FileFilter(runner, picture.memory, picture.threads)
    idle = _memory("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # forget the most it held so far
    with _Threads() as threads, told_to(threads.note):
        start = time.perf_counter()
        apply.picture(picture.source, picture.out)
        wall = time.perf_counter() - start
    return {
        "cpu_seconds": threads.all(),
        "critical_seconds": threads.critical(),
        "seconds": wall,
        "mib_above_idle": (_memory("VmHWM:") - idle) / 2**20,
        "mib_idle": idle / 2**20,
    }


def _memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


class _Threads:
    """Processor seconds of each other thread of this process, looked at again and again."""

    def __enter__(self) -> "_Threads":
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._first = self._look()
        self._when_read: dict[str, float] | None = None
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._done.set()
        self._watcher.join()

    def all(self) -> float:
        """Of all threads together."""
        return sum(self._taken())

    def note(self, text: str) -> None:
        """Notice in what is told when the picture has been read."""
        if self._when_read is None and not text.startswith("reading"):
            self._when_read = self._look()

    def critical(self) -> float:
        """Of all threads until the picture was read, then of the busiest, or half of all."""
        taken = self._taken(self._when_read or self._first)
        return self.all() - sum(taken) + max(*taken, sum(taken) / 2)

    def _taken(self, since: dict[str, float] | None = None) -> list[float]:
        since = self._first if since is None else since
        watcher = str(self._watcher.native_id)
        return [taken - since.get(tid, 0.0) for tid, taken in self._last.items() if tid != watcher]

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self._look()

    def _look(self) -> dict[str, float]:
        """What each thread has taken by now; what ended threads took stays in `_last`."""
        with self._lock:  # an older reading must not follow a newer one
            now = {}
            for task in Path("/proc/self/task").iterdir():
                try:
                    now[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
                except OSError:
                    continue  # it has ended
            self._last |= now
            return now
