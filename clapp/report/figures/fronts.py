"""The front of a study: loss against parameters, and against FLOPs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clapp.front.drawing import Drawing, drawing
from clapp.front.objectives import objective
from clapp.front.outcomes import Candidate
from clapp.report.classical import Classical
from clapp.report.data import StudyData
from clapp.report.figures.labels import SIDES, apart
from clapp.report.figures.style import (
    PALETTE,
    Figure,
    colour_by,
    positive,
    title,
)
from clapp.report.words import joined

_BAND = 0.07  # share of the figure for the margin where zeros are drawn
_GAP = 0.03
OTHERS = "var(--faint)"
REFERENCE = PALETTE[1]


@dataclass(frozen=True)
class _View:
    """A figure of two of loss, parameters and FLOPs, with the third as colour."""

    key: str
    x: str
    colour: str

    def title(self) -> str:
        return f"Loss against {objective(self.x).label}"


def pairs(data: StudyData, classical: Classical) -> list[Figure]:
    """Figures of loss against parameters and against FLOPs; none for a study without a front."""
    if not data.front:
        return []
    views = (_View("front-params", "params", "flops"), _View("front-flops", "flops", "params"))
    return [_pair(data, classical, view) for view in views]


def _pair(data: StudyData, classical: Classical, view: _View) -> Figure:
    beside = classical.flops if view.x == "flops" else None
    shown = drawing(data.candidates, data.front, data.reference, view.x, [beside] if beside else [])
    layout = {**_axes(shown, beside is None), "showlegend": False}
    traces = [
        _others(shown),
        _front(shown, view),
        *_marked(data, shown),
        *_errors(data, view.x),
        _classical(data, view, beside),
    ]
    return Figure(
        key=view.key,
        title=view.title(),
        caption=_caption(data, classical, view),
        alt=_alt(data, view),
        data=apart(traces, layout),
        layout=layout,
        height=470,
    )


def _classical(data: StudyData, view: _View, beside: int | None) -> dict[str, Any]:
    """A point for the filter itself, with loss zero, and with its cost in `x` or in the margin for
    zero."""
    return {
        "name": "classical filter",
        "type": "scatter",
        "mode": "markers+text",
        "x": [beside or 0],
        "y": [0],
        "xaxis": "x" if beside else "x2",
        "yaxis": "y2",
        "text": [f"  {data.filter}: loss 0" + ("" if beside else f", no {_noun(view.x)}")],
        "textposition": "middle right",
        "marker": {"symbol": "square", "size": 10, "color": PALETTE[2]},
        "textfont": {"color": "var(--ink)"},
        "hoverinfo": "skip",
        "cliponaxis": False,
    }


def _axes(shown: Drawing, no_cost: bool) -> dict[str, Any]:
    """Log axes, with margins for zero beside them."""
    zero = {
        "range": [-1, 1],
        "tickvals": [0],
        "ticktext": ["0"],
        "fixedrange": True,
        "showgrid": False,
    }
    bottom = {"x0": 0, "x1": 1, "y0": 0, "y1": _BAND}
    left = {"x0": 0, "x1": _BAND, "y0": 0, "y1": 1}
    start = _BAND + _GAP if no_cost else 0
    x_axis, y_axis = shown.x.axis(), shown.y.axis()
    del x_axis["title"]
    axes: dict[str, Any] = {
        "xaxis": {**x_axis, "domain": [start, 1], "anchor": "y2"},
        "yaxis": {**y_axis, "domain": [_BAND + _GAP, 1], "anchor": "x2" if no_cost else "x"},
        "yaxis2": {**zero, "domain": [0, _BAND], "anchor": "x2" if no_cost else "x"},
        "annotations": [_below(shown.x.heading)],
        "shapes": [_band(place) for place in ([bottom, left] if no_cost else [bottom])],
    }
    if no_cost:
        axes["xaxis2"] = {**zero, "domain": [0, _BAND], "anchor": "y2"}
    return axes


def _below(title: str) -> dict[str, Any]:
    """The title of the horizontal axis, as an annotation outside of the margin for zero."""
    return {
        "text": title,
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "y": 0,
        "yshift": -24,
        "yanchor": "top",
        "showarrow": False,
    }


def _band(place: dict[str, float]) -> dict[str, Any]:
    return {
        "type": "rect",
        "xref": "paper",
        "yref": "paper",
        "layer": "below",
        "line": {"width": 0},
        "fillcolor": "var(--band)",
        **place,
    }


def _noun(name: str) -> str:
    return objective(name).label + (" counted" if name == "flops" else "")


def _others(shown: Drawing) -> dict[str, Any]:
    return {
        "name": "other trials",
        "type": "scatter",
        "mode": "markers",
        **_at(shown.others, shown),
        "marker": {"size": 6, "color": OTHERS, "opacity": 0.55},
        "hoverinfo": "none",
    }


def _at(models: Sequence[Candidate], shown: Drawing) -> dict[str, Any]:
    points = shown.points(models)
    return {
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "customdata": [model.trial for model in models],
    }


def _front(shown: Drawing, view: _View) -> dict[str, Any]:
    colours = colour_by([getattr(c, view.colour) for c in shown.front], title(view.colour))
    return {
        "name": "front",
        "type": "scatter",
        "mode": "markers",
        **_at(shown.front, shown),
        "marker": {"size": 11, "line": {"width": 1, "color": "var(--ink)"}, **colours},
        "hoverinfo": "none",
    }


def _marked(data: StudyData, shown: Drawing) -> list[dict[str, Any]]:
    """Traces of the picks, ringed and named, and of the baselines, each with its symbol."""
    rings = {pick.model.trial: pick.model for pick in data.picks}
    names = {trial: [p.rule for p in data.picks if p.model.trial == trial] for trial in rings}
    labels = [joined([n for n in names[trial] if "<" not in n]) for trial in rings]
    traces: list[dict[str, Any]] = [
        {
            "name": "picks",
            "type": "scatter",
            "mode": "markers+text",
            **_at([*rings.values()], shown),
            "text": labels,
            "textposition": [SIDES[0]] * len(rings),
            "textfont": {"color": "var(--ink)"},
            "marker": {"symbol": "circle-open", "size": 18, "color": "var(--ink)"},
            "hoverinfo": "none",
        }
    ]
    baselines = [c for c in data.candidates if c.baseline is not None]
    if baselines:
        reference = [c.baseline == "reference" for c in baselines]
        traces.append(
            {
                "name": "baselines",
                "type": "scatter",
                "mode": "markers+text",
                **_at(baselines, shown),
                "text": [c.baseline for c in baselines],
                "textposition": [SIDES[0]] * len(baselines),
                "textfont": {"color": "var(--ink)"},
                "marker": {
                    "symbol": ["star" if is_it else "diamond" for is_it in reference],
                    "size": [15 if is_it else 11 for is_it in reference],
                    "color": REFERENCE,
                    "line": {"width": 1, "color": "var(--page)"},
                },
                "hoverinfo": "none",
            }
        )
    return traces


def _errors(data: StudyData, x: str) -> list[dict[str, Any]]:
    """The mean over seeds and its 95 % interval, of configurations trained several times."""
    models = {c.trial: c for c in data.candidates}
    found = [repeats for repeats in data.repeats if repeats.trial in models]
    if not found:
        return []
    intervals = [repeats.interval for repeats in found]
    return [
        {
            "name": "repeats",
            "type": "scatter",
            "mode": "markers",
            "x": positive(getattr(models[r.trial], x) for r in found),
            "y": positive(one.mean for one in intervals),
            "customdata": [r.trial for r in found],
            "error_y": {
                "type": "data",
                # Of two seeds an interval may reach over the whole scale.
                "array": [min(one.high, 100 * one.mean) - one.mean for one in intervals],
                "arrayminus": [one.mean - max(one.low, 0.01 * one.mean) for one in intervals],
                "color": "var(--ink)",
                "thickness": 1.5,
            },
            "marker": {"symbol": "line-ew-open", "size": 12, "color": "var(--ink)"},
            "hoverinfo": "none",
        }
    ]


def _caption(data: StudyData, classical: Classical, view: _View) -> str:
    margins = "shaded margins" if view.x == "params" or not classical.flops else "shaded margin"
    parts = [
        f"Each point is a trained network; the {len(data.front)} of the front are coloured by "
        f"{objective(view.colour).label}: none of them is beaten in all of "
        f"{joined([objective(name).label for name in data.objectives])} at once.",
        f"The star is the hand-tuned reference. The square is the classical filter itself, which "
        f"has no loss by definition: zero has no place on a log scale, so it stands in the "
        f"{margins}.",
    ]
    if view.x == "flops":
        parts.append(classical.source)
    if data.repeats:
        parts.append(
            "Bars are the mean over seeds and its 95 % interval, of networks trained several times."
        )
    return " ".join(parts)


def _alt(data: StudyData, view: _View) -> str:
    first, last = data.front[0], data.front[-1]
    return (
        f"Scatter plot of {len(data.candidates)} networks on log scales, {view.title().lower()}. "
        f"The front of {len(data.front)} reaches from {first.figures()} to "
        f"{last.figures()}. The table of the front has all of them."
    )
