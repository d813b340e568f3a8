"""Shared parts of the figures: the figure itself, scales, colours and axes."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from clapp.front import objectives
from clapp.front.drawing import Scale
from clapp.front.objectives import objective, scaled

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#6B6B6B")
"""Colours for any colour vision (Okabe and Ito, 2008), and two more."""
SCALE = ((0, "#2b7bd0"), (0.5, "#7f8a8f"), (1, "#9a8500"))
"""From blue to olive, with medium lightness, so that it is visible on white and on dark pages."""


@dataclass(frozen=True)
class Figure:
    """A figure and the words around it.

    Attributes:
        key: its id in the page.
        caption: an explanation of the figure.
        alt: a description for readers who do not see the figure.
        wide: whether it takes the whole width of the page.
        least: width in pixels below which it scrolls inside its frame instead of shrinking.
    """

    key: str
    title: str
    caption: str
    alt: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 420
    wide: bool = False
    least: int = 0

    def document(self) -> dict[str, Any]:
        """The document that plotly draws."""
        return {"data": self.data, "layout": {**self.layout, "height": self.height}}


def text(value: Any) -> str:
    """`value` as text, with HTML escaped for plotly and None as null."""
    words = {None: "null", True: "true", False: "false"}
    shown = words[value] if value is None or isinstance(value, bool) else value
    return html.escape(f"{shown:g}" if isinstance(shown, float) else str(shown), quote=False)


def significant(value: float, digits: int = 6) -> float:
    """`value` rounded, for a smaller file."""
    return float(f"{value:.{digits}g}")


def positive(values: Iterable[float]) -> list[float]:
    """Values made positive for a log scale."""
    return [objectives.positive(significant(value)) for value in values]


def title(name: str) -> str:
    """The title of the axis of an objective."""
    return objective(name).title


def log_axis(heading: str, values: Iterable[float]) -> dict[str, Any]:
    """A log axis around `values`, with a label at every decade, or at 1, 2 and 5 of each."""
    return Scale.around(heading, values).axis()


def colour_by(values: Sequence[float], heading: str) -> dict[str, Any]:
    """The colours of a trace's markers by the logarithm of `values`, with their legend on top."""
    logs = [math.log10(value) for value in positive(values)]
    low, high = min(logs), max(logs)
    exponents = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    ticks = [float(e) for e in exponents] if len(exponents) > 1 else sorted({low, high})
    return {
        "color": [round(value, 4) for value in logs],
        "colorscale": SCALE,
        "cmin": low,
        "cmax": high if high > low else low + 1,
        "colorbar": {
            "orientation": "h",
            "thickness": 10,
            "len": 1,
            "y": 1.02,
            "yanchor": "bottom",
            "outlinewidth": 0,
            "title": {"text": heading, "side": "top"},
            "tickvals": ticks,
            "ticktext": [scaled(10**tick) for tick in ticks],
        },
    }
