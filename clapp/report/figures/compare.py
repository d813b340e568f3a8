"""Several studies in one figure, a colour each."""

from collections.abc import Sequence
from typing import Any

from clapp.front.drawing import scale_of
from clapp.front.objectives import objective
from clapp.report.data import StudyData
from clapp.report.figures.search import time_unit
from clapp.report.figures.style import (
    PALETTE,
    Figure,
    positive,
    significant,
    text,
)

_LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "pentagon", "hexagon")


def compare(studies: Sequence[StudyData]) -> list[Figure]:
    """The fronts of several studies, and how their hypervolumes grew."""
    found: list[Figure] = []
    if any(data.front for data in studies):
        found += [_fronts(studies, "params"), _fronts(studies, "flops")]
    if any(data.shared for data in studies):
        found += [_volumes(studies, by_time=False), _volumes(studies, by_time=True)]
    return found


def _fronts(studies: Sequence[StudyData], x: str) -> Figure:
    traces: list[dict[str, Any]] = []
    for number, data in enumerate(studies):
        colour = PALETTE[number % len(PALETTE)]
        models = sorted(data.front, key=lambda c: (getattr(c, x), c.loss))
        traces.append(
            {
                "name": text(data.label),
                "type": "scatter",
                "mode": "markers",
                "x": positive(getattr(c, x) for c in models),
                "y": positive(c.loss for c in models),
                "customdata": [[f"s{number + 1}", c.trial] for c in models],
                "marker": {
                    "size": 9,
                    "color": colour,
                    "symbol": _SYMBOLS[number % len(_SYMBOLS)],
                    "line": {"width": 1, "color": "var(--page)"},
                },
                "hoverinfo": "none",
            }
        )
        if data.reference is not None:
            traces.append(_reference(data, number, x, colour))
    noun = objective(x).label
    shown = [c for data in studies for c in (*data.front, data.reference) if c is not None]
    same = len({data.filter for data in studies}) == 1
    warning = "" if same else " Losses of different filters are not comparable with each other."
    return Figure(
        key=f"all-{x}",
        title=f"Loss against {noun}",
        caption="The front of each study; the star of a colour is that study's hand-tuned "
        f"reference.{warning}",
        alt=f"Fronts of {len(studies)} studies, loss against {noun} on log scales; the table above "
        "has their best models.",
        data=traces,
        layout={
            "xaxis": scale_of(x, [getattr(c, x) for c in shown]).axis(),
            "yaxis": scale_of("loss", [c.loss for c in shown]).axis(),
            "legend": _LEGEND,
        },
        height=450,
    )


def _reference(data: StudyData, number: int, x: str, colour: str) -> dict[str, Any]:
    reference = data.reference
    assert reference is not None
    return {
        "name": f"{text(data.label)}: reference",
        "type": "scatter",
        "mode": "markers",
        "x": positive([getattr(reference, x)]),
        "y": positive([reference.loss]),
        "customdata": [[f"s{number + 1}", reference.trial]],
        "marker": {"size": 15, "symbol": "star", "color": colour},
        "showlegend": False,
        "hoverinfo": "none",
    }


def _volumes(studies: Sequence[StudyData], by_time: bool) -> Figure:
    longest = max(data.shared[-1].seconds for data in studies if data.shared)
    unit, size = time_unit(longest)
    traces = [
        {
            "name": text(data.label),
            "type": "scatter",
            "mode": "lines",
            "x": [significant(m.seconds / size) if by_time else m.trials for m in data.shared],
            "y": [significant(m.hypervolume) for m in data.shared],
            "line": {"shape": "hv", "width": 2.5, "color": PALETTE[number % len(PALETTE)]},
            "hovertemplate": "%{y:.3f}<extra>" + text(data.label) + "</extra>",
        }
        for number, data in enumerate(studies)
    ]
    across = f"{unit} since the study's first trial" if by_time else "trained trials"
    return Figure(
        key=f"all-volume-{'time' if by_time else 'trials'}",
        title=f"Hypervolume over {'time' if by_time else 'trials'}",
        caption="All from one worst point that the studies share: a number differs from that of "
        "the study alone; on log10 scales, higher is better."
        + (" Pauses between runs count as time." if by_time else ""),
        alt=f"Rising lines of {len(studies)} studies.",
        data=traces,
        layout={
            "xaxis": {"title": {"text": across}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "hypervolume"}, "rangemode": "tozero"},
            "legend": _LEGEND,
        },
        height=380,
    )
