"""Names beside points: none on another, inside the plot, left out where there is no room."""

import random
from itertools import combinations
from typing import Any

from clapp.report.figures.labels import INSIDE, SIDES, Box, _beside, _points, apart

LAYOUT = {"xaxis": {"range": [0, 4]}, "yaxis": {"range": [-4, 0]}}


def trace(points: list[tuple[float, float]], texts: list[str], size: float = 18) -> dict[str, Any]:
    return {
        "x": [10**x for x, _ in points],
        "y": [10**y for _, y in points],
        "text": texts,
        "textposition": [SIDES[0]] * len(points),
        "marker": {"size": size},
    }


def boxes(traces: list[dict[str, Any]]) -> list[tuple[Box, Box]]:
    """Of every name that is written: its own and its point's."""
    return [
        (_beside(text, point, side), point)
        for one in traces
        for text, side, point in zip(
            one["text"], one["textposition"], _points(one, LAYOUT), strict=True
        )
        if text
    ]


def test_two_names_of_one_point_stand_at_different_sides() -> None:
    """The reference as the knee: both names used to be written over each other."""
    picks, baselines = apart([trace([(2, -2)], ["knee"]), trace([(2, -2)], ["reference"])], LAYOUT)
    assert (picks["text"], baselines["text"]) == (["knee"], ["reference"])
    assert picks["textposition"] != baselines["textposition"]


def test_names_stay_inside_the_plot() -> None:
    corners = [(0.1, -0.1), (3.9, -0.1), (0.1, -3.9), (3.9, -3.9)]
    (done,) = apart([trace(corners, ["min-loss"] * 4)], LAYOUT)
    sides = ["bottom right", "bottom left", "top right", "top left"]
    assert done["textposition"] == sides


def test_no_name_lies_on_another_or_on_a_named_point() -> None:
    draw, left_out = random.Random(0), 0
    for _ in range(300):

        def cloud(count: int) -> dict[str, Any]:
            points = [(draw.uniform(1.5, 2.5), draw.uniform(-2.5, -1.5)) for _ in range(count)]
            return trace(points, draw.choices(["knee", "min-loss", "reference", ""], k=count))

        traces = [cloud(3), cloud(4)]
        written = sum(bool(text) for one in traces for text in one["text"])
        found = boxes(apart(traces, LAYOUT))
        left_out += written - len(found)
        points = {point for one in traces for point in _points(one, LAYOUT)}
        for (first, _), (second, _) in combinations(found, 2):
            assert not first.meets(second)
        for name, own in found:
            assert not any(name.meets(point) for point in points - {own})
            assert name.left >= INSIDE.left
            assert name.right <= INSIDE.right
    assert 0 < left_out < 300  # there is not always room


def test_a_name_hides_as_few_points_as_it_can() -> None:
    crowd = {**trace([(2.3, -1.8), (2.4, -1.8)], [], 11), "text": "", "textposition": "top right"}
    _, done = apart([crowd, trace([(2, -2)], ["min-loss"])], LAYOUT)
    assert done["textposition"] == ["top left"]
