"""The front of a study in space: loss, parameters and FLOPs at once."""

from collections.abc import Sequence
from typing import Any

from clapp.front.drawing import scale_of
from clapp.front.outcomes import Candidate
from clapp.report.data import StudyData
from clapp.report.figures.fronts import OTHERS, REFERENCE
from clapp.report.figures.style import Figure, colour_by, positive, title


def space(data: StudyData) -> list[Figure]:
    """The front in space; none for a study without a front."""
    if not data.front:
        return []
    on_front = {c.trial for c in data.front}
    others = [c for c in data.candidates if c.trial not in on_front]
    colours = colour_by([c.loss for c in data.front], title("loss"))
    traces = [
        _cloud("other trials", others, {"size": 2, "color": OTHERS, "opacity": 0.5}),
        _cloud("front", data.front, {"size": 5, **colours, "showscale": False}),
    ]
    if data.reference is not None:
        marker = {"symbol": "diamond", "size": 6, "color": REFERENCE}
        traces.append(_cloud("reference", [data.reference], marker, ["reference"]))
    axes = {
        axis: scale_of(name, [getattr(c, name) for c in data.candidates]).axis()
        for axis, name in (("xaxis", "params"), ("yaxis", "flops"), ("zaxis", "loss"))
    }
    eye = {"x": -1.5, "y": -1.65, "z": 0.7}
    centre = {"x": 0, "y": 0, "z": -0.12}
    return [
        Figure(
            key="front-space",
            title="All three at once",
            caption="The same networks in space, to turn with the mouse or a finger; all scales "
            "are logarithmic. The front is the lower shell, coloured by its loss; the diamond is "
            "the hand-tuned reference.",
            alt=f"Three-dimensional scatter plot of parameters, FLOPs and loss of "
            f"{len(data.candidates)} networks. The table of the front has the same numbers.",
            data=traces,
            layout={
                "scene": {**axes, "camera": {"eye": eye, "center": centre}, "aspectmode": "cube"},
                "showlegend": False,
                "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
            },
            height=560,
            wide=True,
        )
    ]


def _cloud(
    name: str, models: Sequence[Candidate], marker: dict[str, Any], labels: list[str] | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "type": "scatter3d",
        "mode": "markers+text" if labels else "markers",
        "x": positive(c.params for c in models),
        "y": positive(c.flops for c in models),
        "z": positive(c.loss for c in models),
        "customdata": [c.trial for c in models],
        "marker": marker,
        "hoverinfo": "none",
        **({"text": labels, "textfont": {"color": "var(--ink)"}} if labels else {}),
    }
