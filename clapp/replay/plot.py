"""Hypervolume against simulated seconds, with intervals, as an HTML page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clapp.system.files import write_text

if TYPE_CHECKING:
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    from clapp.replay.simulate import Outcome

POINTS = 200
# Okabe and Ito's colours, for any colour vision; one colour for each sampler.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
_DASHES = {"none": "dash", "front": "solid", "mo-asha": "dot", "median": "dashdot"}


def write_plot(path: Path, found: dict[tuple[str, str], "list[Outcome]"], seconds: float) -> None:
    """Write the plot to one self-contained file."""
    write_text(path, figure(found, seconds).to_html(include_plotlyjs=True))


def figure(found: dict[tuple[str, str], "list[Outcome]"], seconds: float) -> "go.Figure":
    """The mean over seeds of each sampler and pruner, and the band of its 95 % interval."""
    import plotly.graph_objects as go

    times = np.linspace(0, seconds, POINTS)
    samplers = list(dict.fromkeys(sampler for sampler, _ in found))
    chart = go.Figure()
    for (sampler, pruner), outcomes in found.items():
        curves = np.array([[outcome.at(t) for t in times] for outcome in outcomes])
        mean = curves.mean(0)
        half = 1.96 * curves.std(0, ddof=1) / len(curves) ** 0.5 if len(curves) > 1 else 0 * mean
        colour = _COLOURS[samplers.index(sampler) % len(_COLOURS)]
        name = f"{sampler} / {pruner}"
        chart.add_trace(_band(times, mean - half, mean + half, colour, name))
        line = {"color": colour, "dash": _DASHES[pruner]}
        chart.add_trace(go.Scatter(x=times, y=mean, name=name, line=line, legendgroup=name))
    chart.update_layout(
        template="plotly_white",
        title=f"Search on recorded curves, {len(next(iter(found.values())))} seeds",
        xaxis_title="simulated seconds",
        yaxis_title="hypervolume (log10 of loss, parameters, FLOPs)",
    )
    return chart


def _band(times: Any, low: Any, high: Any, colour: str, name: str) -> "go.Scatter":
    import plotly.graph_objects as go

    return go.Scatter(
        x=[*times, *times[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=0.15,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
    )
