"""Figures of the search: hypervolume, learning curves, workers over time, time by activity."""

from collections.abc import Iterable, Sequence
from typing import Any

from clapp.front.hypervolume import log_hypervolume
from clapp.front.objectives import amount, positive
from clapp.report.data import StudyData
from clapp.report.figures.style import (
    PALETTE,
    Figure,
    log_axis,
    significant,
    text,
    title,
)
from clapp.report.trials import OUTCOMES, Trial
from clapp.report.words import duration, joined, outcomes

_OUTCOME_COLOURS = {
    "on the front": PALETTE[0],
    "trained": PALETTE[5],
    "over a limit": PALETTE[3],
    "stopped early": PALETTE[4],
    "skipped": "var(--faint)",
    "failed": PALETTE[1],
    "interrupted": PALETTE[6],
    "running": PALETTE[2],
}
_UNITS = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def time_unit(seconds: float) -> tuple[str, float]:
    """The best unit for a time span, and its length in seconds."""
    return next(((name, size) for name, size in _UNITS if seconds >= 2 * size), _UNITS[-1])


def hypervolume(data: StudyData) -> list[Figure]:
    """The hypervolume over time; none before the second trained trial."""
    moments = data.history
    if len(moments) < 2:
        return []
    unit, size = time_unit(moments[-1].seconds)
    traces: list[dict[str, Any]] = [
        {
            "name": "front",
            "type": "scatter",
            "mode": "lines",
            "x": [significant(moment.seconds / size) for moment in moments],
            "y": [significant(moment.hypervolume) for moment in moments],
            "customdata": [moment.trials for moment in moments],
            "hovertemplate": "%{y:.3f} after %{customdata} trials<extra></extra>",
            "line": {"shape": "hv", "width": 2.5, "color": PALETTE[0]},
        }
    ]
    if data.reference is not None:
        point = [data.reference.values[name] for name in data.worst]
        volume = log_hypervolume([point], [*data.worst.values()])
        traces.append(_level(volume, moments[-1].seconds / size))
    worst = joined([amount(name, value) for name, value in data.worst.items()])
    return [
        Figure(
            key="hypervolume",
            title="Hypervolume",
            caption=f"How much room the front covers below {worst}, on log10 scales, where a "
            "factor of ten is one. Flat means that the search finds "
            "nothing new; the dashed line is what the reference alone covers.",
            alt=f"Line that rises to {moments[-1].hypervolume:.2f} after {moments[-1].trials} "
            f"trials and {duration(moments[-1].seconds)}.",
            data=traces,
            layout={
                "xaxis": {"title": {"text": f"{unit} since the first trial"}},
                "yaxis": {"title": {"text": "hypervolume"}, "rangemode": "tozero"},
                "showlegend": False,
            },
            height=380,
        )
    ]


def _level(volume: float, last: float) -> dict[str, Any]:
    return {
        "name": "reference",
        "type": "scatter",
        "mode": "lines",
        "x": [0, significant(last)],
        "y": [volume, volume],
        "line": {"dash": "dash", "width": 1.5, "color": PALETTE[1]},
        "hovertemplate": "the reference alone: %{y:.3f}<extra></extra>",
    }


def curves(data: StudyData) -> list[Figure]:
    """Validation loss over the steps, of the front and of the rest."""
    drawn = [trial for trial in data.trials if len(trial.curve) > 1]
    if not drawn:
        return []
    best = [t for t in drawn if t.outcome == "on the front"]
    stopped = [t for t in drawn if t.outcome == "stopped early"]
    reference = [t for t in drawn if t.baseline == "reference"]
    rest = [t for t in drawn if t not in best and t not in stopped and t not in reference]
    traces = [
        _lines("the rest", rest, "var(--faint)", 1, 0.35),
        _lines("stopped early", stopped, PALETTE[4], 1, 0.5),
        _lines("the front", best, PALETTE[0], 1.8, 0.9),
        _lines("the reference", reference, PALETTE[1], 2.5, 1),
    ]
    return [
        Figure(
            key="curves",
            title="Learning curves",
            caption="Validation L2 of each training, step by step. Members of the front are drawn "
            "over the rest; a curve that stopped early ends in the air.",
            alt=f"Learning curves of {len(drawn)} trainings, {len(best)} of them on the front.",
            data=[trace for trace in traces if trace["x"]],
            layout={
                "xaxis": {"title": {"text": "training steps"}, "rangemode": "tozero"},
                "yaxis": log_axis(title("loss"), [point.l2 for t in drawn for point in t.curve]),
                "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            },
            height=380,
        )
    ]


def _lines(
    name: str, trials: Iterable[Trial], colour: str, width: float, opacity: float
) -> dict[str, Any]:
    """Many curves as one trace, with gaps between them."""
    x: list[int | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for trial in trials:
        x += [point.step for point in trial.curve] + [None]
        y += [positive(significant(point.l2, 4)) for point in trial.curve] + [None]
        numbers += [trial.number] * (len(trial.curve) + 1)
    return {
        "name": name,
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "customdata": numbers,
        "opacity": opacity,
        "line": {"color": colour, "width": width},
        "hoverinfo": "none",
    }


def timeline(data: StudyData) -> list[Figure]:
    """The trials of each worker over time."""
    trials = [trial for trial in data.trials if trial.start is not None]
    if not trials:
        return []
    rows = worker_rows(trials)
    seam = 0.5 if len(trials) < 300 else 0  # outlines would hide short bars
    ends = [trial.end or trial.start for trial in trials]
    last = max(end for end in ends if end is not None)
    traces = []
    for outcome in OUTCOMES:
        found = [trial for trial in trials if trial.outcome == outcome]
        if not found:
            continue
        starts = [trial.start or last for trial in found]
        lengths = [(t.end or last) - s for t, s in zip(found, starts, strict=True)]
        traces.append(
            {
                "name": f"{outcome} ({len(found)})",
                "type": "bar",
                "orientation": "h",
                "base": [start.isoformat(timespec="milliseconds") for start in starts],
                "x": [max(round(length.total_seconds() * 1000), 1) for length in lengths],
                "y": [rows[trial.worker] for trial in found],
                "customdata": [trial.number for trial in found],
                "marker": {
                    "color": _OUTCOME_COLOURS[outcome],
                    "line": {"width": seam, "color": "var(--page)"},
                },
                "hoverinfo": "none",
            }
        )
    labels = sorted(set(rows.values()), key=list(rows.values()).index)
    return [
        Figure(
            key="timeline",
            title="Timeline",
            caption="What each worker did when, coloured by what became of the trial. Gaps are "
            "time in which nobody worked on the study.",
            alt=f"Bars of {len(trials)} trials on {len(labels)} rows of workers: {outcomes(data)}.",
            data=traces,
            layout={
                "barmode": "overlay",
                "bargap": 0.25,
                "xaxis": {"type": "date", "nticks": 6, "tickangle": 0},
                "yaxis": {
                    "type": "category",
                    "categoryorder": "array",
                    "categoryarray": labels,
                    "autorange": "reversed",
                },
                "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            },
            height=150 + 26 * max(2, len(labels)),
            wide=True,
        )
    ]


def worker_rows(trials: Sequence[Trial]) -> dict[str, str]:
    """Worker -> row; a worker started after another one has ended on its machine gets the same
    row."""
    spans: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda t: (t.start is None, t.start)):
        spans.setdefault(trial.worker, []).append(trial)
    free: dict[str, list[Any]] = {}  # machine -> when each of its rows becomes free
    rows = {}
    for worker, found in spans.items():
        machine = worker.rsplit("-", 3)[0] or "worker"
        ends = [trial.end for trial in found if trial.end is not None]
        last = max(ends) if len(ends) == len(found) else None  # None: it is still running
        taken = free.setdefault(machine, [])
        begin = found[0].start
        row = next((i for i, end in enumerate(taken) if end and begin and end <= begin), len(taken))
        taken[row : row + 1] = [last]
        rows[worker] = f"{text(machine)} {row + 1}"
    return rows


def ledger(data: StudyData) -> list[Figure]:
    """The seconds of all workers by activity."""
    seconds = {
        name: float(value)
        for name, value in (data.ledger.get("seconds") or {}).items()
        if isinstance(value, int | float) and value > 0
    }
    if not seconds:
        return []
    total = sum(seconds.values())
    ordered = sorted(seconds, key=lambda name: -seconds[name])
    traces = [
        {
            "name": f"{text(name)} {100 * seconds[name] / total:.0f} %",
            "type": "bar",
            "orientation": "h",
            "x": [significant(seconds[name], 4)],
            "y": [""],
            "marker": {
                "color": PALETTE[position % len(PALETTE)],
                "line": {"width": 1, "color": "var(--page)"},
            },
            "hovertemplate": f"{text(name)}: {duration(seconds[name])}<extra></extra>",
        }
        for position, name in enumerate(ordered)
    ]
    shares = joined([f"{name} {100 * seconds[name] / total:.0f} %" for name in ordered])
    return [
        Figure(
            key="ledger",
            title="Where the time went",
            caption=f"{duration(total)} of all workers together, by what they spent it on.",
            alt=f"One bar in parts: {shares}.",
            data=traces,
            layout={
                "barmode": "stack",
                "xaxis": {"title": {"text": "seconds"}},
                "yaxis": {"visible": False},
                "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            },
            height=240,
            wide=True,
        )
    ]
