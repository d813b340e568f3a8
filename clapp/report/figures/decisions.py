"""Figures of the parameters: importances, parallel coordinates, the loss against each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from clapp.front.objectives import Objective, exact_names, objective
from clapp.report.data import StudyData
from clapp.report.figures.style import (
    PALETTE,
    SCALE,
    Figure,
    log_axis,
    positive,
    significant,
    text,
)
from clapp.report.importances import Importances
from clapp.report.trials import Trial
from clapp.report.words import joined

_DIMENSIONS = 8  # the most parameters among the parallel coordinates


@dataclass
class Axis:
    """Values of a parameter as positions on an axis; None for trials without the parameter.

    Choices are placed side by side in the order of the search space, with their names.
    """

    positions: list[float | None]
    ticks: list[float] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    log: bool = False


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Dotted keys without their section, where the rest is unique."""
    last = [name.rpartition(".")[2] for name in names]
    return {
        name: end if last.count(end) == 1 else name for name, end in zip(names, last, strict=True)
    }


def importance(data: StudyData) -> list[Figure]:
    """The figure of importances for each objective; none if they are unknown."""
    found = data.importances
    if not found.shares:
        return []
    names = found.ranked()
    short = short_names(names)
    traces = [
        {
            "name": text(objective),
            "type": "bar",
            "orientation": "h",
            "y": [text(short[name]) for name in names],
            "x": [round(shares.get(name, 0.0), 4) for name in names],
            "marker": {"color": PALETTE[position]},
            "hovertemplate": "%{x:.0%} of " + text(objective) + "<extra>%{y}</extra>",
        }
        for position, (objective, shares) in enumerate(found.shares.items())
    ]
    first = next(iter(found.shares))
    return [
        Figure(
            key="importances",
            title="Importances",
            caption=_importance_caption(found),
            alt=f"Bars of {len(names)} parameters; the most important for {first} is {names[0]}.",
            data=traces,
            layout={
                "barmode": "group",
                "bargap": 0.3,
                "xaxis": {"tickformat": ".0%"},
                "yaxis": {"autorange": "reversed"},
                "legend": {"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0},
            },
            height=120 + (10 + 9 * len(traces)) * len(names),
            wide=True,
        )
    ]


def _importance_caption(found: Importances) -> str:
    exact = exact_names(found.shares)
    parts = ["The bars of one objective add up to 100 %."]
    if exact:
        labels = joined([objective(name).label for name in exact])
        parts.append(
            f"For {labels}: how far the value moves when one parameter alone is drawn again, by "
            "the exact formula."
        )
    if len(exact) < len(found.shares):
        parts.append(
            f"For the rest: what sets the best {100 * found.best:.0f} % of {found.random} trials "
            "that were drawn at random apart from the others (PED-ANOVA)."
        )
    return " ".join(parts)


def trained(data: StudyData) -> list[Trial]:
    """The trials with a loss and drawn parameters; the front comes last, so that it is on top."""
    found = [t for t in data.trials if t.outcome in ("on the front", "trained") and t.drawn]
    return sorted(found, key=lambda trial: trial.outcome == "on the front")


def ranked(data: StudyData) -> list[str]:
    """The parameters of the search, most important first if importances are known."""
    rank = {name: position for position, name in enumerate(data.importances.ranked())}
    return sorted(data.space, key=lambda name: rank.get(name, len(rank)))


def parallel(data: StudyData) -> list[Figure]:
    """Each trained trial as a line through its objectives and most important parameters."""
    trials = trained(data)
    if len(trials) < 2:
        return []
    names = ranked(data)[:_DIMENSIONS]
    short = short_names(names)
    losses = [math.log10(v) for v in positive(t.loss or 0.0 for t in trials)]
    dimensions = [
        _log_dimension(objective(name), [float(getattr(t, name) or 0) for t in trials])
        for name in ("loss", "params", "flops")
    ]
    dimensions += [_dimension(text(short[name]), _axis(data, name, trials)) for name in names]
    line = {
        "color": [round(value, 4) for value in losses],
        "colorscale": SCALE,
        "reversescale": True,
    }
    return [
        Figure(
            key="parallel",
            title="Parallel coordinates",
            caption="Each line is a trained network: on the left what it reached, then what it was "
            "made of, the most important parameter first; bright is a low loss. Drag along an "
            "axis to keep only the lines that pass there, drag a name to move its axis.",
            alt=f"Parallel coordinates of {len(trials)} networks over loss, parameters, FLOPs and "
            f"{', '.join(names)}.",
            data=[{"type": "parcoords", "line": line, "dimensions": dimensions, "labelangle": -20}],
            layout={"margin": {"l": 62, "r": 62, "t": 80, "b": 24}},
            height=440,
            wide=True,
            least=95 * len(dimensions),
        )
    ]


def _log_dimension(entry: Objective, values: Sequence[float]) -> dict[str, Any]:
    logs = [math.log10(value) for value in positive(values)]
    low, high = min(logs), max(logs)
    spread = [low + (high - low) * part / 4 for part in range(5)]
    return {
        "label": entry.label,
        "values": [round(value, 4) for value in logs],
        "range": [low, high if high > low else low + 1],
        "tickvals": spread,
        "ticktext": [entry.format(float(f"{10**tick:.2g}")) for tick in spread],
    }


def _dimension(label: str, axis: Axis) -> dict[str, Any]:
    """An axis; trials without the parameter cross it below the smallest value, at a dash."""
    present = [value for value in axis.positions if value is not None]
    values = [math.log10(v) if axis.log else v for v in present]
    low, high = min(values, default=0.0), max(values, default=1.0)
    below = low - (max(high - low, 1.0) * 0.15 if not axis.log else 0.25)
    drawn = [
        below if v is None else round(math.log10(v) if axis.log else v, 4) for v in axis.positions
    ]
    ticks, labels = _ticks(axis, low, high)
    if len(present) < len(axis.positions):
        ticks, labels, low = [below, *ticks], ["–", *labels], below
    return {
        "label": label,
        "values": drawn,
        "range": [low, high if high > low else low + 1],
        "tickvals": ticks,
        "ticktext": labels,
    }


def _ticks(axis: Axis, low: float, high: float) -> tuple[list[float], list[str]]:
    if axis.labels:
        return axis.ticks, axis.labels
    whole = all(value is None or value == int(value) for value in axis.positions)
    if whole and not axis.log and high - low <= 12:
        ticks = [float(tick) for tick in range(int(low), int(high) + 1)]
        return ticks, [f"{tick:g}" for tick in ticks]
    ticks = [low + (high - low) * part / 4 for part in range(5)]
    return ticks, [f"{10**tick if axis.log else tick:.2g}" for tick in ticks]


def slices(data: StudyData) -> list[Figure]:
    """Small figures of the loss against each parameter."""
    trials = trained(data)
    if len(trials) < 2:
        return []
    return [_slice(data, name, trials, number) for number, name in enumerate(ranked(data))]


def _slice(data: StudyData, name: str, trials: Sequence[Trial], number: int) -> Figure:
    having = [trial for trial in trials if name in trial.drawn]
    axis = _axis(data, name, having)
    places = [
        place if axis.log or place is None or not axis.labels else place + _jitter(trial.number)
        for place, trial in zip(axis.positions, having, strict=True)
    ]
    traces = []
    for outcome, colour, size in (("trained", "var(--faint)", 4), ("on the front", PALETTE[0], 6)):
        chosen = [i for i, trial in enumerate(having) if trial.outcome == outcome]
        traces.append(
            {
                "name": outcome,
                "type": "scatter",
                "mode": "markers",
                "x": [places[i] for i in chosen],
                "y": positive(having[i].loss or 0.0 for i in chosen),
                "customdata": [having[i].number for i in chosen],
                "marker": {"size": size, "color": colour, "opacity": 0.75},
                "hoverinfo": "none",
            }
        )
    return Figure(
        key=f"slice-{number}",
        title=name,
        caption="",
        alt=f"Scatter plot of the loss of {len(having)} networks against {name}.",
        data=traces,
        layout={
            "xaxis": _across(axis, data.space[name]),
            "yaxis": log_axis("", [trial.loss or 0.0 for trial in having]),
            "showlegend": False,
            "margin": {"t": 8, "r": 8, "b": 26},
        },
        height=200,
    )


def _across(axis: Axis, distribution: BaseDistribution) -> dict[str, Any]:
    """The axis of a parameter."""
    if axis.labels:
        ends = [-0.6, len(axis.labels) - 0.4]
        ticks = {"tickvals": axis.ticks, "ticktext": axis.labels, "range": ends}
        return {**ticks, "automargin": True, "tickfont": {"size": 11}}
    if axis.log:
        return log_axis("", [value for value in axis.positions if value is not None])
    if isinstance(distribution, IntDistribution):
        return {"dtick": max(1, round((distribution.high - distribution.low) / 8))}
    return {"nticks": 6}


def _jitter(number: int) -> float:
    """A horizontal shift between -0.3 and 0.3, the same in each figure for a trial."""
    return significant(((number * 0.6180339887) % 1 - 0.5) * 0.6, 3)


def _axis(data: StudyData, name: str, trials: Sequence[Trial]) -> Axis:
    distribution = data.space[name]
    if not isinstance(distribution, CategoricalDistribution):
        values = [trial.drawn.get(name) for trial in trials]
        positions = [None if value is None else significant(value) for value in values]
        return Axis(positions, log=bool(getattr(distribution, "log", False)))
    labels = [text(choice) for choice in distribution.choices]
    places = {label: float(position) for position, label in enumerate(labels)}
    chosen = [places.get(text(t.drawn[name])) if name in t.drawn else None for t in trials]
    return Axis(chosen, [*places.values()], labels)
