"""The display of a running study: a live screen on a terminal, plain lines elsewhere."""

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from typing import Protocol, Self

from clapp.study.display.screen import SLOW_SECONDS, Screen
from clapp.study.display.snapshot import Snapshot
from clapp.study.display.words import describe, front_in_words, progress_in_words
from clapp.system.console import QUIET_SECONDS, is_live, plain_console


class View(Protocol):
    """Where a driver shows progress."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def message(self, text: str) -> None:
        """Show a message of one line."""

    def update(self, snapshot: Snapshot) -> None:
        """The study as it is now."""

    def doing(self, text: str) -> AbstractContextManager[None]:
        """Name the activity of the block, which is shown if it takes long."""


def make_view(title: str) -> View:
    """The live display on a terminal, else plain lines."""
    return LiveView(title) if is_live(sys.stdout) else PlainView()


class PlainView:
    """A line for each finished trial and each change of the front; no control codes.

    If nothing happens, a line of progress is printed about every `QUIET_SECONDS`.
    """

    def __init__(self) -> None:
        self._front: list[int] = []
        self._latest: Snapshot | None = None
        self._doing, self._since = "", 0.0
        self._said = time.monotonic()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _beat(self) -> None:
        while not self._over.wait(1.0):
            if time.monotonic() - self._said >= QUIET_SECONDS:
                self.message(self._present())

    def _present(self) -> str:
        shown = self._latest
        parts = [] if shown is None else [progress_in_words(shown), *shown.workers]
        if self._doing and time.monotonic() - self._since > SLOW_SECONDS:
            parts.append(self._doing)
        return "; ".join(parts) or "starting"

    def message(self, text: str) -> None:
        """Print a line."""
        self._said = time.monotonic()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def update(self, snapshot: Snapshot) -> None:
        """Print what is new."""
        self._latest = snapshot
        for trial in snapshot.finished:
            self.message(describe(trial))
        front = [one.trial for one in snapshot.front]
        if snapshot.finished and front and front != self._front:
            self._front = front
            self.message(f"front: {front_in_words(snapshot)}; {progress_in_words(snapshot)}")

    @contextmanager
    def doing(self, text: str) -> Iterator[None]:
        """Name the activity in the line of progress."""
        self._doing, self._since = text, time.monotonic()
        try:
            yield
        finally:
            self._doing = ""


class LiveView:
    """A full-screen display; the terminal is restored afterwards.

    A thread draws it, so it is updated while the driver waits. Messages and standard error are
    shown in it, and printed after it has closed.
    """

    def __init__(self, title: str) -> None:
        from rich.live import Live

        self._screen = Screen(title)
        self._live = Live(
            console=plain_console(),
            screen=True,
            refresh_per_second=1,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=lambda: self._screen,
        )
        self._kept: list[str] = []
        self._redirected = redirect_stderr(_Lines(self.message))

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        self._redirected.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._redirected.__exit__(None, None, None)
        self._live.stop()
        for text in self._kept:
            self.message(text)

    def message(self, text: str) -> None:
        """Show a line, and print it afterwards."""
        if self._live.is_started:
            self._kept.append(text)
            self._screen.notes.append(text)
        else:
            self._live.console.print(text, soft_wrap=True)

    def update(self, snapshot: Snapshot) -> None:
        """Draw this snapshot from now on."""
        from optuna.trial import TrialState

        for trial in snapshot.finished:
            if trial.state == TrialState.FAIL:
                self.message(describe(trial))
        self._screen.show(snapshot)

    @contextmanager
    def doing(self, text: str) -> Iterator[None]:
        """Show the activity in the last line, after a moment."""
        self._screen.do(text)
        try:
            yield
        finally:
            self._screen.do(None)


class _Lines(io.TextIOBase):
    """A text stream that passes on whole lines."""

    def __init__(self, to: Callable[[str], None]) -> None:
        self._to, self._begun = to, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._to(line)
        return len(text)
