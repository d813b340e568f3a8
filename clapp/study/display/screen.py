"""The live display, laid out for the terminal's size: progress, front, plots, workers.

From 72 columns on, the plots are beside the table of the front, otherwise below it. Content that
does not fit is cut, never wrapped: first plots, then rows of the front and workers.
"""

import textwrap
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clapp.front.drawing import drawing
from clapp.front.tables import front_table
from clapp.study.display.snapshot import Snapshot
from clapp.study.display.textplot import Axis, Series, plot, sparkline
from clapp.study.display.words import clock, counts_in_words, progress_in_words

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
    from rich.segment import Segment
    from rich.text import Text

BESIDE = 72
"""Columns from which plots are beside the table."""
WIDE = 120
"""Columns from which remarks on a model are written in full."""
SLOW_SECONDS = 1.5
"""Seconds of waiting after which the reason is shown."""
# Minimum and maximum height of the plots with their titles.
_FRONT_LINES, _VOLUME_LINES = (6, 32), (6, 10)
_TABLE_LINES = 4  # minimum rows of the table, before a plot is drawn below it
_WORKERS, _NOTES = 4, 3  # lines of each
_HINT = "Ctrl-C stops; everything trained is saved"


@dataclass
class Screen:
    """The content of the display, which rich redraws."""

    title: str
    snapshot: Snapshot | None = None
    doing: str | None = None
    """The current activity of the driver, if it is waiting."""
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=_NOTES))
    _since: float = field(default_factory=time.monotonic)
    _taken: float = 0.0
    _body: "tuple[object, list[list[Segment]]]" = (None, [])

    def show(self, snapshot: Snapshot) -> None:
        """Show a new snapshot."""
        self.snapshot, self._taken = snapshot, time.monotonic()

    def do(self, text: str | None) -> None:
        """Set the activity that the driver waits for; None: none."""
        self.doing, self._since = text, time.monotonic()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.segment import Segment

        width, plain = options.max_width, options.ascii_only
        height = options.height or console.height
        top, bottom = self._top(width, plain), self._bottom(width)
        room = height - len(top) - len(bottom) - 2
        yield from top
        if self.snapshot is not None and self.snapshot.front and room > 1:
            yield _line("", width)
            for line in self._front(self.snapshot, console, options, room):
                yield from line
                yield Segment.line()
        yield _line("", width)
        yield from bottom

    def _top(self, width: int, plain: bool) -> "list[Text]":
        shown = self.snapshot
        if shown is None:
            return [
                _line(f"{self.title}: starting, {clock(time.monotonic() - self._since)}", width)
            ]
        running = shown.elapsed + time.monotonic() - self._taken
        words = progress_in_words(shown)
        if width >= BESIDE:
            words += f"; running for {clock(running)}"
        lines = [_headline(shown, words, width, plain)]
        lines += [_line(text, width) for text in textwrap.wrap(counts_in_words(shown), width)[:3]]
        if shown.volumes:
            start = f"hypervolume {shown.volumes[-1]:.2f} "
            bars = sparkline(shown.volumes, max(0, width - len(start)), plain=plain)
            lines.append(_line(start, width).append(bars, "cyan"))
        return lines

    def _bottom(self, width: int) -> "list[Text]":
        workers = list(self.snapshot.workers if self.snapshot is not None else ())
        more = len(workers) - _WORKERS
        if more > 0:
            workers = [*workers[: _WORKERS - 1], f"... and {more + 1} more workers"]
        waited = time.monotonic() - self._since
        if self.doing is not None and waited > SLOW_SECONDS:
            last = _line(f"{self.doing}, {waited:.0f} s", width, "yellow")
        else:
            last = _line(_HINT, width, "dim")
        return [
            *(_line(text, width) for text in workers),
            *(_line(text, width, "yellow") for text in self.notes),
            last,
        ]

    def _front(
        self, shown: Snapshot, console: "Console", options: "ConsoleOptions", room: int
    ) -> "list[list[Segment]]":
        """The lines of table and plots; drawn again only if the front or the terminal's size
        changed."""
        key = (len(shown.volumes), [c.trial for c in shown.front], options.max_width, room)
        if self._body[0] != key:
            content = body(shown, console, options, room)
            fitting = options.update(height=None)
            self._body = (key, console.render_lines(content, fitting, pad=False)[:room])
        return self._body[1]


def body(
    shown: Snapshot, console: "Console", options: "ConsoleOptions", room: int
) -> "ConsoleRenderable":
    """Table and plots of the front in `room` lines."""
    from rich.console import Group
    from rich.measure import Measurement
    from rich.table import Table

    width, plain = options.max_width, options.ascii_only
    beside = width >= BESIDE
    below = 0 if beside else min(_FRONT_LINES[1], room - 1 - _TABLE_LINES - 1)
    rows = room - 1 if below < _FRONT_LINES[0] else room - below - 2
    table = _cut_table(shown, rows, short=width < WIDE)
    taken = Measurement.get(console, options, table).maximum
    if not beside:
        left = room - 2 - min(len(shown.front), rows)
        drawn = _plots(shown, width, left, plain)
        return Group(table, _line("", width), *drawn) if drawn else table
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(width=taken, no_wrap=True)
    grid.add_column(no_wrap=True, overflow="crop")
    grid.add_row(table, Group(*_plots(shown, width - taken - 3, room, plain)))
    return grid


def _cut_table(shown: Snapshot, rows: int, *, short: bool) -> "ConsoleRenderable":
    """The front's table in a heading and `rows` lines: both ends of the front, and part of its
    middle."""
    from rich.console import Group

    models = list(shown.front)
    rows = max(rows, 2)
    if len(models) <= rows:
        return front_table(models, shown.reference, short=short)
    rows -= 1
    chosen = [models[round(i * (len(models) - 1) / max(1, rows - 1))] for i in range(rows)]
    more = f"... and {len(models) - rows} more models"
    return Group(front_table(chosen, shown.reference, short=short), _line(more, 40))


def _plots(shown: Snapshot, width: int, room: int, plain: bool) -> "list[Text]":
    """Loss against parameters and, if there is room, the growth of the hypervolume."""
    volume = min(_VOLUME_LINES[1], room // 3)
    with_volume = volume >= _VOLUME_LINES[0] and len(shown.volumes) > 1
    height = min(_FRONT_LINES[1], room - (volume + 1 if with_volume else 0))
    if height < _FRONT_LINES[0]:
        return []
    lines = front_plot(shown, width, height, plain=plain)
    if with_volume and lines:
        lines += [_line("", width), *volume_plot(shown.volumes, width, volume, plain=plain)]
    return lines


def front_plot(shown: Snapshot, width: int, height: int, *, plain: bool) -> "list[Text]":
    """Loss against parameters on logarithmic axes, with a legend, in `height` lines."""
    drawn = drawing(shown.candidates, shown.front, shown.reference)
    mark, hand = ("o", "R") if plain else ("●", "◆")
    series = [
        Series(drawn.points(drawn.others), style="dim"),
        Series(drawn.points(drawn.front), mark, "green"),
    ]
    legend = [(" ", ""), (mark, "green"), (" front", "")]
    if shown.reference is not None:
        series.append(Series(drawn.points([shown.reference]), hand, "yellow"))
        legend += [(" ", ""), (hand, "yellow"), (" reference", "")]
    lines = plot(series, Axis.of(drawn.x), Axis.of(drawn.y), width, height - 1, plain=plain)
    title = _line("loss by params:", width, "bold")
    for text, style in legend:
        title.append(text, style)
    title.truncate(width)
    return [title, *lines] if lines else []


def volume_plot(volumes: Sequence[float], width: int, height: int, *, plain: bool) -> "list[Text]":
    """The hypervolume after each trained trial, with a title, in `height` lines."""
    steps = Series(list(enumerate(volumes, start=1)), style="cyan", steps=True)
    x, y = Axis(1, len(volumes), whole=True), Axis.around(volumes)
    lines = plot([steps], x, y, width, height - 1, plain=plain)
    return [_line("hypervolume by trials", width, "bold"), *lines] if lines else []


def _headline(shown: Snapshot, words: str, width: int, plain: bool) -> "Text":
    text = _line(f"{shown.study} ", width, "bold")
    left = min(width - len(shown.study) - len(words) - 2, 60)
    if left >= 4:
        full = round(left * min(shown.trained / shown.total, 1))
        done, open_ = ("#", ".") if plain else ("━", "─")
        text.append(done * full, "green").append(open_ * (left - full) + " ", "dim")
    text.append(words, "not bold")
    text.truncate(width)
    return text


def _line(text: str, width: int, style: str = "") -> "Text":
    from rich.text import Text

    line = Text(no_wrap=True, overflow="crop")
    line.append(text, style)
    line.truncate(width)
    return line
