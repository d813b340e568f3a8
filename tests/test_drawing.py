"""One drawing of a front: the terminal, the dashboard and the report show the same."""

import math
from dataclasses import replace
from typing import Any

import pytest
from test_study_live import candidate, snapshot

from clapp.front.drawing import Drawing, Scale, drawing, sayings
from clapp.report.figures.style import log_axis
from clapp.study.dashboard.graphs import front_graph
from clapp.study.display import screen
from clapp.study.display.textplot import Series

FRONT = [candidate(4, 0.004, 50), candidate(7, 0.001, 200)]
REFERENCE = candidate(0, 0.002, 2505, "reference")
OTHERS = [candidate(5, 0.02, 60), candidate(6, 0.0, 9000)]


@pytest.fixture
def shown() -> Drawing:
    return drawing([REFERENCE, *FRONT, *OTHERS], FRONT, REFERENCE)


def test_models_are_told_apart(shown: Drawing) -> None:
    assert [one.trial for one in shown.others] == [5, 6]
    assert shown.points(shown.front) == [(50, 0.004), (200, 0.001)]
    assert shown.points(shown.others)[1] == (9000, 1e-9)  # zero has no place on a log scale


def test_scales_hold_every_point(shown: Drawing) -> None:
    for scale, values in ((shown.x, (50, 9000)), (shown.y, (1e-9, 0.02))):
        low, high = (math.log10(value) for value in values)
        assert scale.low < low < high < scale.high
    assert shown.x.axis()["tickformat"] == "~s"
    wider = drawing(FRONT, FRONT, None, "params", [1e6])
    assert wider.x.high > 6
    assert Scale.around("", []).axis()["range"] == [-0.06, 1.06]
    assert log_axis("loss", [1, 10]) == Scale.around("loss", [1, 10]).axis()


def test_the_dashboard_shows_it(shown: Drawing) -> None:
    graph = front_graph([REFERENCE, *FRONT, *OTHERS], FRONT, REFERENCE)
    for trace, models in zip(graph["data"], (OTHERS, FRONT, [REFERENCE]), strict=True):
        assert list(zip(trace["x"], trace["y"], strict=True)) == shown.points(models)
    axes = graph["layout"]["xaxis"], graph["layout"]["yaxis"]
    assert [axis["range"] for axis in axes] == [
        [scale.low, scale.high] for scale in (shown.x, shown.y)
    ]
    assert graph["data"][1]["text"][0].startswith("<b>trial 4</b><br>loss 0.004")


def test_the_terminal_shows_it(shown: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def plot(series: list[Series], x: Any, y: Any, *_: Any, **__: Any) -> list[Any]:
        seen.update(points=[list(one.points) for one in series], x=x, y=y)
        return []

    monkeypatch.setattr(screen, "plot", plot)
    study = replace(
        snapshot(), front=FRONT, reference=REFERENCE, candidates=[REFERENCE, *FRONT, *OTHERS]
    )
    screen.front_plot(study, 60, 12, plain=True)
    assert seen["points"] == [shown.points(one) for one in (OTHERS, FRONT, [REFERENCE])]
    assert math.log10(seen["x"].high) == pytest.approx(shown.x.high)


def test_what_is_said_of_a_model() -> None:
    name, figures, *words = sayings(REFERENCE, words=True)
    assert name == "trial 0, reference"
    assert "2,505 parameters" in figures
    assert "4 blocks of 8 channels" in " ".join(words)
    assert sayings(REFERENCE, words=False) == [name, figures]
