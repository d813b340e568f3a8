"""What a person sees while a study runs: a live display, or plain lines without a terminal."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from optuna.trial import FrozenTrial, TrialState

from clapp.front import Candidate, beats, front_table

if TYPE_CHECKING:
    from rich.console import RenderableType

_FRAME_LINES = 10  # lines of the display that are not the front


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment."""

    study: str
    total: int
    trained: int
    trained_before: int
    """Trained when this run started."""
    counts: dict[str, int]
    front: Sequence[Candidate]
    reference: Candidate | None
    elapsed: float
    """Seconds of this run."""
    seconds_left: float | None
    """Until the time budget is spent; None: it has none."""
    workers: Sequence[str] = ()
    finished: Sequence[FrozenTrial] = field(default=())
    """Trials that finished since the last snapshot."""

    @property
    def per_minute(self) -> float:
        """Trials trained a minute in this run."""
        return (self.trained - self.trained_before) * 60 / max(self.elapsed, 1e-9)

    @property
    def remaining(self) -> float | None:
        """Seconds until the study ends at the present rate, or None before it is known."""
        if self.trained == self.trained_before:
            return self.seconds_left
        by_rate = (self.total - self.trained) * 60 / self.per_minute
        return by_rate if self.seconds_left is None else min(by_rate, max(self.seconds_left, 0.0))

    def beating(self) -> int | None:
        """How many models of the front beat the reference; None before that is trained."""
        if self.reference is None:
            return None
        return sum(beats(one, self.reference) for one in self.front)


class View(Protocol):
    """Where a driver shows what goes on."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def message(self, text: str) -> None:
        """Something happened that is worth a line."""

    def update(self, snapshot: Snapshot) -> None:
        """The study as it is now."""


def make_view() -> View:
    """The live display on a terminal, else plain lines."""
    return LiveView() if sys.stdout.isatty() else PlainView()


class PlainView:
    """A line for each finished trial and for each change of the front; no control codes."""

    def __init__(self) -> None:
        self._front: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def message(self, text: str) -> None:
        """Print a line."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def update(self, snapshot: Snapshot) -> None:
        """Print what is new."""
        for trial in snapshot.finished:
            self.message(describe(trial))
        front = [one.trial for one in snapshot.front]
        if snapshot.finished and front != self._front:
            self._front = front
            self.message(f"front: {_front_in_words(snapshot)}; {_progress_in_words(snapshot)}")


class LiveView:
    """A display that redraws itself, with the front as a table."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._texts: list[str] = []

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def message(self, text: str) -> None:
        """Print a line above the display."""
        self._console.print(text, markup=False)

    def update(self, snapshot: Snapshot) -> None:
        """Redraw."""
        for trial in snapshot.finished:
            if trial.state == TrialState.FAIL:
                self.message(describe(trial))
        self._live.update(render(snapshot, self._console.height - _FRAME_LINES))


def render(snapshot: Snapshot, rows: int) -> "RenderableType":
    """The live display; the front is cut to `rows` lines."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(snapshot.study, style="bold"),
        ProgressBar(snapshot.total, min(snapshot.trained, snapshot.total), width=40),
        _progress_in_words(snapshot),
    )
    shown = list(snapshot.front)[: max(rows, 3)]
    lines: list[RenderableType] = [bar, Text(_counts_in_words(snapshot))]
    if shown:
        lines.append(Padding(front_table(shown, snapshot.reference), (1, 0, 0, 0)))
    if len(shown) < len(snapshot.front):
        lines.append(Text(f"... and {len(snapshot.front) - len(shown)} larger models"))
    lines.append(Text("\n".join(["", *snapshot.workers]), style="dim"))
    return Group(*lines)


def describe(trial: FrozenTrial) -> str:
    """A finished trial in one line."""
    facts = trial.user_attrs
    start = f"trial {trial.number}"
    if "baseline" in facts:
        start += f" ({facts['baseline']})"
    if "skipped" in facts:
        of = f" of trial {facts['duplicate_of']}" if "duplicate_of" in facts else ""
        return f"{start}: skipped: {facts['skipped']}{of}"
    if trial.state == TrialState.FAIL:
        return f"{start}: failed: {facts.get('failed', 'its worker was lost')}"
    stopped = " (stopped early)" if trial.state == TrialState.PRUNED else ""
    figures = [f"{name} {facts[name]:.6g}" for name in ("loss", "params", "flops") if name in facts]
    return f"{start}: {', '.join(figures)}, {facts.get('seconds', 0):.1f} s{stopped}"


def _front_in_words(snapshot: Snapshot) -> str:
    best = min(snapshot.front, key=lambda one: one.loss)
    text = (
        f"{len(snapshot.front)} model{'s' * (len(snapshot.front) > 1)}, "
        f"lowest loss {best.loss:.6f} with {best.params:,} parameters"
    )
    beating = snapshot.beating()
    return text if beating is None else f"{text}, {beating} beat the reference"


def _counts_in_words(snapshot: Snapshot) -> str:
    words = [f"{number} {word}" for word, number in snapshot.counts.items()]
    beating = snapshot.beating()
    beats_it = [] if beating is None else [f"{beating} beat the reference"]
    return ", ".join([*words, f"{snapshot.per_minute:.1f} trials a minute", *beats_it])


def _progress_in_words(snapshot: Snapshot) -> str:
    left = snapshot.remaining
    text = f"{snapshot.trained} of {snapshot.total} trials"
    return text if left is None else f"{text}, {clock(left)} left"


def clock(seconds: float) -> str:
    """A duration as 1:02:03 or 2:03."""
    text = time.strftime("%H:%M:%S", time.gmtime(seconds)).removeprefix("00:")
    return text[1:] if text.startswith("0") else text
