"""The graphs of a study in the dashboard: its front, its hypervolume, its best learning curves.

Figures are plain documents in Plotly's format. The dashboard draws them, so Plotly need not be
imported here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from clapp.front.drawing import Drawing, Scale, drawing, sayings, significant
from clapp.front.hypervolume import Moment
from clapp.front.objectives import loss_text
from clapp.front.outcomes import Candidate

Figure = dict[str, Any]
T = TypeVar("T")

CURVES, CURVE_POINTS = 12, 60
"""The most curves in one graph, and the most points of a curve; both are thinned evenly."""
_BLUE, _GREY, _ORANGE = "#1f6fb4", "#b4b9c0", "#d9730d"
# Colours of the curves of the smallest and the largest model.
_PALE, _DARK = (158, 202, 225), (8, 48, 107)


def front_graph(
    found: Sequence[Candidate], front: Sequence[Candidate], reference: Candidate | None
) -> Figure:
    """Loss over the first other objective, both on log scales.

    Args:
        found: every trained trial within the limits, at least one; two objectives or more.
        front: those of them on the front, by parameters.
    """
    name = next(name for name in found[0].values if name != "loss")
    shown = drawing(found, front, reference, name)
    traces = [
        _models("trained", shown, shown.others, {"color": _GREY, "size": 6}),
        _models("front", shown, shown.front, {"color": _BLUE, "size": 9}),
    ]
    if reference is not None:
        marker = {"color": _ORANGE, "size": 13, "symbol": "diamond-open", "line": {"width": 2}}
        traces.append(_models("reference", shown, [reference], marker))
    axes = {"xaxis": _log_axis(shown.x), "yaxis": _log_axis(shown.y)}
    return _figure("Front: the lowest loss for its size", traces, axes)


def _models(name: str, shown: Drawing, models: Sequence[Candidate], marker: Figure) -> Figure:
    points = shown.points(models)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "marker": marker,
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "text": [_said(one, words=models is not shown.others) for one in models],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _said(one: Candidate, *, words: bool) -> str:
    name, *lines = sayings(one, words=words)
    return "<br>".join([f"<b>{name}</b>", *lines])


def hypervolume_graph(moments: Sequence[Moment]) -> Figure:
    """The hypervolume after each trained trial, of which there is at least one."""
    grown = [
        moment
        for before, moment in zip([None, *moments], moments, strict=False)
        if before is None or before.hypervolume != moment.hypervolume or moment is moments[-1]
    ]
    trace = {
        "type": "scatter",
        "mode": "lines",
        "line": {"shape": "hv", "color": _BLUE, "width": 2},
        "x": [moment.trials for moment in grown],
        "y": [round(moment.hypervolume, 4) for moment in grown],
        "text": [_clock(moment.seconds) for moment in grown],
        "hovertemplate": "%{y:.3f} after %{x} trials, %{text}<extra></extra>",
    }
    y = _axis("hypervolume (decades)") | {"rangemode": "tozero"}
    axes = {"xaxis": _axis("trained trials"), "yaxis": y}
    return _figure("Hypervolume: how far the front has come", [trace], axes)


def curves_graph(front: Sequence[Candidate], curves: Mapping[int, Sequence[Any]]) -> Figure:
    """Validation L2 over the iterations of models of the front, darker the larger the model.

    Args:
        front: by parameters.
        curves: trial -> its validations as (iteration, seconds, L2); at least one of the front's.
    """
    shown = _spread([one for one in front if curves.get(one.trial)], CURVES)
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"{one.params:,} (trial {one.trial})",
            "line": {"width": 2, "color": _shade(position / max(len(shown) - 1, 1))},
            "x": [step for step, _, _ in _spread(curves[one.trial], CURVE_POINTS)],
            "y": [significant(l2) for _, _, l2 in _spread(curves[one.trial], CURVE_POINTS)],
            "text": [loss_text(l2) for _, _, l2 in _spread(curves[one.trial], CURVE_POINTS)],
            "hovertemplate": "%{text} after %{x}<extra>%{fullData.name}</extra>",
        }
        for position, one in enumerate(shown)
    ]
    values = [value for trace in traces for value in trace["y"]]
    layout = {
        "xaxis": _axis("iterations") | {"rangemode": "tozero"},
        "yaxis": _log_axis(Scale.around("validation L2", values)),
        "showlegend": True,
        "legend": {"title": {"text": "parameters"}, "font": {"size": 11}},
    }
    return _figure("Learning curves of the front", traces, layout)


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items, evenly spread, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _shade(share: float) -> str:
    mixed = (round(a + (b - a) * share) for a, b in zip(_PALE, _DARK, strict=True))
    return "rgb({},{},{})".format(*mixed)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _axis(title: str) -> Figure:
    return {
        "title": {"text": title},
        "gridcolor": "#e4e4e4",
        "zeroline": False,
        "automargin": True,
    }


def _log_axis(scale: Scale) -> Figure:
    return _axis(scale.heading) | scale.axis()


def _figure(title: str, traces: list[Figure], layout: Figure) -> Figure:
    # White also in the dashboard's dark theme, which does not change the colours of these figures.
    layout = {
        "title": {"text": f"<b>{title}</b>", "font": {"size": 17}, "x": 0.02, "xanchor": "left"},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "font": {"color": "#333"},
        "margin": {"l": 60, "r": 20, "t": 60, "b": 50},
        "hoverlabel": {"align": "left"},
        **layout,
    }
    return {"data": traces, "layout": layout}
