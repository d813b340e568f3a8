"""The plots of experiments as one HTML page that needs nothing else: plotly."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clapp.commands.experiments.plots.bands import (
    COLOURS,
    KINDS,
    Band,
    Distribution,
    band_of,
    curve_of,
)
from clapp.commands.experiments.runs import Outcome
from clapp.front.objectives import loss_text
from clapp.system.files import write_text

if TYPE_CHECKING:
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    from clapp.commands.experiments.ablate import Ablation
    from clapp.commands.experiments.front import Front

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:Arial,Helvetica,sans-serif;max-width:70rem;margin:2rem auto}}
td,th{{padding:.2rem .8rem .2rem 0;text-align:left}}</style></head>
<body><h1>{title}</h1><p>{words}</p>{figures}{table}</body></html>
"""


def write_page(
    path: Path,
    title: str,
    words: str,
    figures: Sequence["go.Figure"],
    table: Sequence[Sequence[str]],
) -> None:
    """Write plots, and under them a table whose first row is its head, as one file."""
    drawn = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, figure in enumerate(figures)
    ]
    head, *rows = table
    cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    write_text(
        path,
        _PAGE.format(
            title=html.escape(title),
            words=html.escape(words),
            figures="".join(drawn),
            table=f"<table><tr>{heads}</tr>{body}</table>",
        ),
    )


def curves_figure(outcomes: Sequence[Outcome]) -> "go.Figure":
    """Training and validation: every training thin, the mean thick, its 95 % interval as a band."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for (key, name), colour in zip(KINDS.items(), COLOURS, strict=False):
        for one in outcomes:
            steps, values = curve_of(one, key)
            figure.add_scatter(
                x=steps,
                y=values,
                mode="lines",
                line={"color": colour, "width": 0.7},
                opacity=0.35,
                name=f"{name}, seed {one.seed}",
                legendgroup=name,
                showlegend=False,
            )
        band = band_of(outcomes, key)
        if band is not None:
            _add_band(figure, band, name, colour)
    return _styled(figure, "Losses while training", "iterations", "loss", log_y=True)


def _add_band(figure: "go.Figure", band: Band, name: str, colour: str) -> None:
    figure.add_scatter(
        x=[*band.steps, *band.steps[::-1]],
        y=[*band.high, *band.low[::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=0.2,
        line={"width": 0},
        hoverinfo="skip",
        legendgroup=name,
        showlegend=False,
    )
    figure.add_scatter(
        x=band.steps,
        y=band.mean,
        mode="lines",
        line={"color": colour, "width": 3},
        name=f"{name}: mean and 95 % interval",
        legendgroup=name,
    )


def distribution_figure(
    found: Sequence[Distribution], heading: str, axis: str, *, log: bool = True
) -> "go.Figure":
    """A box and every value, a row for each distribution."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for one, colour in zip(found, COLOURS * (len(found) // len(COLOURS) + 1), strict=False):
        figure.add_box(
            x=one.values,
            name=one.name,
            boxpoints="all",
            jitter=0.4,
            pointpos=0,
            marker={"color": colour},
            orientation="h",
            showlegend=False,
        )
    _styled(figure, heading, axis, "")
    if log:
        figure.update_xaxes(type="log")
    figure.update_layout(height=220 + 45 * len(found))
    return figure


def front_figure(front: "Front") -> "go.Figure":
    """Every member with the interval of its mean over seeds, and its loss in the search."""
    import plotly.graph_objects as go

    members = [one for one in front.members if one.repeats.interval is not None]
    intervals = [one.repeats.interval for one in members if one.repeats.interval is not None]
    chances = [front.chances.get(one.trial) for one in members]
    words = ["" if c is None else f"on the front: {100 * c:.0f} %" for c in chances]
    figure = go.Figure()
    figure.add_scatter(
        x=[one.candidate.params for one in members],
        y=[one.mean for one in intervals],
        error_y={
            "array": [min(i.high, 1e3 * i.mean) - i.mean for i in intervals],
            "arrayminus": [i.mean - max(i.low, 1e-3 * i.mean) for i in intervals],
        },
        mode="markers",
        marker={"size": 10, "color": [c or 0.0 for c in chances], "cmin": 0, "cmax": 1}
        | {"colorscale": "Viridis", "colorbar": {"title": {"text": "on the front"}}},
        text=[f"trial {one.trial}<br>{word}" for one, word in zip(members, words, strict=True)],
        name="mean over seeds",
    )
    figure.add_scatter(
        x=[one.candidate.params for one in front.members],
        y=[one.candidate.loss for one in front.members],
        mode="markers",
        marker={"size": 9, "symbol": "circle-open", "color": COLOURS[1]},
        text=[f"trial {one.trial}" for one in front.members],
        name="in the search",
    )
    _styled(figure, "The front over seeds", "parameters", "loss (validation L2)", log_y=True)
    figure.update_xaxes(type="log")
    figure.update_layout(legend={"orientation": "h"})
    return figure


def effects_figure(ablation: "Ablation") -> "go.Figure":
    """What each trick is worth, the greatest on top, with its interval."""
    import plotly.graph_objects as go

    effects = [one for one in ablation.effects if one.worth is not None][::-1]
    worths = [one.worth for one in effects if one.worth is not None]
    figure = go.Figure()
    figure.add_scatter(
        x=[one.mean for one in worths],
        y=[one.variant.trick.name for one in effects],
        error_x={
            "array": [min(w.high, 1e3 * w.mean) - w.mean for w in worths],
            "arrayminus": [w.mean - max(w.low, 1e-3 * w.mean) for w in worths],
        },
        mode="markers",
        marker={
            "size": 11,
            "color": [COLOURS[0] if one.clear else COLOURS[7] for one in effects],
        },
        text=[one.variant.trick.meaning for one in effects],
        showlegend=False,
    )
    figure.add_vline(x=1, line={"color": COLOURS[7], "dash": "dot"})
    heading = f"What each trick is worth: {ablation.name}, loss {_base(ablation)}"
    _styled(figure, heading, "loss without it / loss with it, from the same seeds", "")
    figure.update_xaxes(type="log")
    figure.update_layout(height=220 + 45 * len(effects))
    return figure


def _base(ablation: "Ablation") -> str:
    found = ablation.base.interval
    return loss_text(found.mean) if found is not None else "none: every training diverged"


def _styled(
    figure: "go.Figure", heading: str, x: str, y: str, *, log_y: bool = False
) -> "go.Figure":
    figure.update_layout(
        template="plotly_white", title=html.escape(heading), xaxis_title=x, yaxis_title=y
    )
    if log_y:
        figure.update_yaxes(type="log")
    return figure
