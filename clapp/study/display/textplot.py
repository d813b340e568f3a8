"""Plots made of characters: points and steps over labelled axes, and sparklines.

Braille characters hold 2 x 4 dots each; `plain` plots use ASCII only. plotext was tried: it takes
most of a second to import and keeps its figure in global variables.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clapp.front.drawing import Scale

if TYPE_CHECKING:
    from rich.text import Text

Point = tuple[float, float]

_BRAILLE = 0x2800
# Bits of the dots of a Braille character, row by row.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BARS, _PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
_MARGIN = 0.04  # margin of an axis beyond the outermost points


@dataclass(frozen=True)
class Axis:
    """An axis: a range of values, mapped to 0 to 1."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    """Only whole numbers are ticks."""

    @classmethod
    def around(cls, values: Iterable[float]) -> "Axis":
        """A linear axis on which all `values` lie."""
        found = list(values)
        low, high = (min(found), max(found)) if found else (0.0, 1.0)
        margin = (high - low) * _MARGIN or 0.5
        return cls(low - margin, high + margin)

    @classmethod
    def of(cls, scale: Scale) -> "Axis":
        """The logarithmic axis of a scale."""
        return cls(10**scale.low, 10**scale.high, log=True)

    def place(self, value: float) -> float:
        """The place of `value` between 0 and 1; values out of range are on the border."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        if self.log and value <= 0:
            return 0.0
        return min(1.0, max(0.0, (self._scaled(value) - low) / (high - low)))

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, most: int) -> list[float]:
        """Round values on the axis: powers of ten, else multiples of 1, 2 and 5; at most `most`."""
        if most < 1:
            return []
        found = self._log_ticks() if self.log else self._linear_ticks(most)
        return found[:: math.ceil(len(found) / most)] if found else []

    def _log_ticks(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in ((1,), (1, 2, 5)):
            ticks = [float(f"{s}e{p}") for p in range(first, last + 1) for s in steps]
            inside = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(inside) >= 2:
                return inside
        return inside

    def _linear_ticks(self, most: int) -> list[float]:
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * s for s in (1, 2, 5, 10) if power * s >= rough)
        step = max(step, 1.0) if self.whole else step
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [float(f"{number * step:.6g}") for number in range(first, last + 1)]


@dataclass(frozen=True)
class Series:
    """Points drawn in one style.

    Attributes:
        points: (x, y) pairs.
        mark: the character of a point; empty: a dot.
        style: a style of rich.
        steps: a line that keeps its height until the next point, instead of points.
    """

    points: Sequence[Point]
    mark: str = ""
    style: str = ""
    steps: bool = False


@dataclass
class _Canvas:
    """A grid of characters, each of several dots."""

    width: int
    height: int
    plain: bool
    cells: dict[tuple[int, int], tuple[int, str, str]] = field(default_factory=dict)
    """(row, column) -> dots, mark, style."""

    @property
    def columns(self) -> int:
        """Dots in a row."""
        return self.width * 2

    def spot(self, x: float, y: float) -> tuple[int, int]:
        """The row and column of dots at x and y, from 0 to 1 each."""
        return round((1 - y) * (self.height * 4 - 1)), round(x * (self.columns - 1))

    def dot(self, row: int, column: int, style: str) -> None:
        """Set a dot; it is hidden by a mark at the same place."""
        dots, mark, _ = self.cells.get((row // 4, column // 2), (0, "", ""))
        bits = dots | _DOTS[row % 4][column % 2]
        self.cells[row // 4, column // 2] = (bits, mark, style)

    def mark(self, row: int, column: int, mark: str, style: str) -> None:
        """Put a character at the place of a dot; later marks replace earlier ones."""
        self.cells[row // 4, column // 2] = (0, mark, style)

    def row(self, number: int) -> "Text":
        """A row of characters, `width` long."""
        from rich.text import Text

        text = Text()
        for column in range(self.width):
            dots, mark, style = self.cells.get((number, column), (0, " ", ""))
            drawn = "." if self.plain else chr(_BRAILLE | dots)
            text.append(mark or drawn, style)
        return text


def plot(
    series: Sequence[Series], x: Axis, y: Axis, width: int, height: int, *, plain: bool
) -> "list[Text]":
    """Draw `series` over two axes; later ones cover earlier ones.

    Args:
        width, height: of the whole plot, in characters.
        plain: use ASCII alone.

    Returns:
        `height` lines, none longer than `width`; none where there is no room.
    """
    rows = height - 2  # an axis and its labels
    labels = _labels_beside(y, rows)
    gutter = max((len(label) for label in labels.values()), default=0)
    canvas = _Canvas(width - gutter - 1, rows, plain)
    if rows < 2 or canvas.width < 8:
        return []
    for one in series:
        _draw(canvas, one, x, y)
    return [
        *(_beside(canvas, row, labels.get(row, ""), gutter) for row in range(rows)),
        *_below(canvas, x, gutter),
    ]


def _draw(canvas: _Canvas, series: Series, x: Axis, y: Axis) -> None:
    spots = [canvas.spot(x.place(a), y.place(b)) for a, b in series.points]
    if not series.steps:
        for row, column in spots:
            if series.mark:
                canvas.mark(row, column, series.mark, series.style)
            else:
                canvas.dot(row, column, series.style)
        return
    ends = [column for _, column in spots[1:]] + [canvas.columns]
    before = None
    for (row, column), end in zip(spots, ends, strict=True):
        for between in range(*sorted((row, row if before is None else before))):
            canvas.dot(between, column, series.style)
        for across in range(column, max(end, column + 1)):
            canvas.dot(row, across, series.style)
        before = row


def _labels_beside(y: Axis, rows: int) -> dict[int, str]:
    canvas = _Canvas(1, max(rows, 1), plain=True)
    return {
        canvas.spot(0, y.place(tick))[0] // 4: f"{tick:g}" for tick in y.ticks(max(1, rows // 2))
    }


def _beside(canvas: _Canvas, row: int, label: str, gutter: int) -> "Text":
    from rich.text import Text

    side = ("+" if label else "|") if canvas.plain else ("┤" if label else "│")
    return Text().append(label.rjust(gutter) + side, "dim").append_text(canvas.row(row))


def _below(canvas: _Canvas, x: Axis, gutter: int) -> "list[Text]":
    from rich.text import Text

    line, labels = ["-" if canvas.plain else "─"] * canvas.width, [" "] * canvas.width
    free = 0  # the first column where a label may start
    for tick in x.ticks(max(1, canvas.width // 8)):
        label = f"{tick:g}"
        at = canvas.spot(x.place(tick), 0)[1] // 2
        start = min(max(at - len(label) // 2, 0), canvas.width - len(label))
        if start >= free:
            line[at] = "+" if canvas.plain else "┬"
            labels[start : start + len(label)] = label
            free = start + len(label) + 1
    corner = "+" if canvas.plain else "└"
    return [
        Text(" " * gutter + corner + "".join(line), "dim"),
        Text(" " * (gutter + 1) + "".join(labels), "dim"),
    ]


def sparkline(values: Sequence[float], width: int, *, plain: bool) -> str:
    """`values` as a line of bars, one character each; of too many values, the last of each part."""
    if len(values) > width:
        values = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
    if not values:
        return ""
    bars = _PLAIN_BARS if plain else _BARS
    low, high = min(values), max(values)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] for value in values)
