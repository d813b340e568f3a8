"""Place labels beside points so that none covers another label or a named point."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

SIDES = (
    "top right",
    "top left",
    "bottom right",
    "bottom left",
    "top center",
    "bottom center",
    "middle right",
    "middle left",
)
_LETTER, _LINE, _GAP = 7.0, 17.0, 2.0
"""In pixels: width of a letter, height of a line, and distance between label and point."""
_WIDTH, _HEIGHT = 330.0, 340.0
"""Size of the plot on a phone in pixels; on a wider page labels only move further apart."""


class Box(NamedTuple):
    """A rectangle in pixels of the plot, whose origin is at the bottom left."""

    left: float
    right: float
    bottom: float
    top: float

    def meets(self, other: "Box") -> bool:
        """Whether two boxes overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )


INSIDE = Box(0, _WIDTH, 0, _HEIGHT)


def apart(traces: list[dict[str, Any]], layout: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Place the names of points on log axes so that they do not overlap; returns the traces.

    A name is placed on a side of its point where it is inside the plot and covers neither a name
    nor a named point; of several such sides, on the one where it hides the fewest other points. A
    name without such a side is left out of the plot; cards and tables still have it.

    Args:
        traces: traces with `text` and a list as `textposition` are changed.
        layout: the layout, with the ranges of `xaxis` and `yaxis`.
    """
    named = [one for one in traces if isinstance(one.get("textposition"), list)]
    other = [one for one in traces if one not in named and "xaxis" not in one]
    hidden = [box for one in other for box in _points(one, layout)]
    taken = [box for one in named for box in _points(one, layout)]
    for one in named:
        texts, sides = list(one["text"]), list(one["textposition"])
        for number, box in enumerate(_points(one, layout)):
            if not texts[number]:
                continue
            own = [point for point in taken if point != box]
            placed = _best(texts[number], box, own, hidden)
            texts[number] = "" if placed is None else texts[number]
            if placed is not None:
                sides[number] = placed[0]
                taken.append(placed[1])
        one["text"], one["textposition"] = texts, sides
    return traces


def _best(
    text: str, point: Box, taken: Sequence[Box], hidden: Sequence[Box]
) -> tuple[str, Box] | None:
    places = [(side, _beside(text, point, side)) for side in SIDES]
    free = [
        (side, box)
        for side, box in places
        if box.left >= INSIDE.left
        and box.right <= INSIDE.right
        and box.bottom >= INSIDE.bottom
        and box.top <= INSIDE.top
        and not any(box.meets(one) for one in taken)
    ]
    return min(free, key=lambda place: sum(map(place[1].meets, hidden)), default=None)


def _beside(text: str, point: Box, side: str) -> Box:
    """The box in which plotly writes `text` for a `textposition`."""
    width = _LETTER * len(text)
    vertical, horizontal = side.split()
    left = {
        "left": point.left - _GAP - width,
        "center": (point.left + point.right - width) / 2,
        "right": point.right + _GAP,
    }[horizontal]
    bottom = {
        "bottom": point.bottom - _GAP - _LINE,
        "middle": (point.bottom + point.top - _LINE) / 2,
        "top": point.top + _GAP,
    }[vertical]
    return Box(left, left + width, bottom, bottom + _LINE)


def _points(trace: Mapping[str, Any], layout: Mapping[str, Any]) -> list[Box]:
    """The positions of the markers of a trace."""
    sizes = trace.get("marker", {}).get("size", 6)
    sizes = sizes if isinstance(sizes, list) else [sizes] * len(trace["x"])
    across = _shares(trace["x"], layout["xaxis"]["range"])
    up = _shares(trace["y"], layout["yaxis"]["range"])
    return [
        Box(x * _WIDTH - s / 2, x * _WIDTH + s / 2, y * _HEIGHT - s / 2, y * _HEIGHT + s / 2)
        for x, y, s in zip(across, up, sizes, strict=True)
    ]


def _shares(values: Iterable[float], limits: Sequence[float]) -> list[float]:
    """The positions of values on a log axis, as shares of its length."""
    low, high = limits
    return [(math.log10(value) - low) / (high - low) for value in values]
