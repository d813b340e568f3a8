"""Plots made of characters: points where they must be, round ticks, ASCII on request."""

import pytest

from clapp.front.drawing import Scale
from clapp.study.display.textplot import Axis, Series, plot, sparkline

CURVE = [(1.0, 0.0), (3.0, 1.0)]


def drawn(*series: Series, width: int = 30, height: int = 8, plain: bool = True) -> list[str]:
    points = [point for one in series for point in one.points]
    x = Axis.of(Scale.around("", (a for a, _ in points)))
    y = Axis.of(Scale.around("", (b for _, b in points)))
    return [line.plain for line in plot(series, x, y, width, height, plain=plain)]


def test_an_axis_places_values_by_their_logarithm() -> None:
    axis = Axis(1, 10_000, log=True)
    assert [axis.place(value) for value in (1, 100, 10_000)] == [0, 0.5, 1]
    assert [axis.place(value) for value in (0, 0.5, 1e9)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("axis", "most", "ticks"),
    [
        (Axis(1, 20_000, log=True), 9, [1, 10, 100, 1000, 10_000]),
        (Axis(1, 20_000, log=True), 3, [1, 100, 10_000]),
        (Axis(15, 90, log=True), 9, [20, 50]),
        (Axis(0, 100), 4, [0, 50, 100]),
        (Axis(1, 3, whole=True), 9, [1, 2, 3]),
        (Axis(0.31, 0.52), 5, [0.35, 0.4, 0.45, 0.5]),
    ],
)
def test_ticks_are_round(axis: Axis, most: int, ticks: list[float]) -> None:
    assert axis.ticks(most) == ticks


def test_an_axis_of_one_value_has_room_on_both_sides() -> None:
    axis = Axis.around([7, 7])
    assert axis.place(7) == 0.5
    assert Axis.of(Scale.around("", [100])).place(100) == 0.5
    assert 0 < Axis.around([]).place(0.5) < 1


def test_points_stand_where_they_must() -> None:
    lines = drawn(Series([(1, 1), (100, 0.01)], "o"), Series([(10, 0.1)], "R"))
    rows = [line[line.index("|" if "|" in line else "+") + 1 :] for line in lines[:-2]]
    places = {
        mark: [(r, row.index(mark)) for r, row in enumerate(rows) if mark in row] for mark in "oR"
    }
    (top, left), (bottom, right) = places["o"]
    ((middle, centre),) = places["R"]
    assert (top, bottom) == (0, len(rows) - 1)
    assert left <= 1
    assert right >= len(rows[0]) - 2
    assert abs(centre - (left + right) / 2) <= 1
    assert abs(middle - (top + bottom) / 2) <= 1


def test_ticks_are_written_beside_and_below() -> None:
    lines = drawn(Series([(10, 0.001), (1000, 0.1)], "o"), width=40, height=12)
    assert lines[-1].split() == ["10", "100", "1000"]
    for row, label in ((0, "0.1"), (9, "0.001")):
        assert any(
            line.startswith(label.rjust(5) + "+") for line in lines[max(0, row - 1) : row + 2]
        )


def test_later_series_cover_earlier_ones() -> None:
    text = "".join(drawn(Series([(1, 1)], "a"), Series([(1, 1)], "b"), Series([(2, 2)])))
    assert "a" not in text
    assert "b" in text


@pytest.mark.parametrize("width", [20, 40, 80, 157])
@pytest.mark.parametrize("height", [5, 12, 30])
def test_a_plot_has_the_size_asked_for(width: int, height: int) -> None:
    lines = drawn(Series([(3, 0.00002), (4711, 0.3)], "o"), width=width, height=height, plain=False)
    assert len(lines) == height
    assert {len(line) for line in lines} == {width}


def test_no_plot_without_room() -> None:
    assert drawn(Series([(1, 1)], "o"), width=9) == []
    assert drawn(Series([(1, 1)], "o"), height=3) == []


def test_braille_has_eight_dots_a_character_and_plain_is_ascii() -> None:
    series = Series([(1, 1), (1.01, 1), (100, 100)])
    braille = "".join(drawn(series, plain=False))
    assert sum(bin(ord(c) & 0xFF).count("1") for c in braille if 0x2800 <= ord(c) < 0x2900) >= 2
    assert "".join(drawn(series, plain=True)).isascii()


def test_steps_keep_their_height_until_the_next() -> None:
    lines = plot([Series(CURVE, steps=True)], Axis(1, 5), Axis(0, 1), 22, 6, plain=True)
    rows = [line.plain[2:] for line in lines[:-2]]
    assert rows[-1].startswith("." * 9)
    assert rows[0].endswith("." * 9)
    assert all("." in row for row in rows)  # joined by an upright


def test_a_sparkline_rises_with_its_values() -> None:
    assert sparkline([0, 1, 2, 7], 10, plain=False) == "▁▂▃█"
    assert sparkline([0, 7], 10, plain=True) == "_#"
    assert sparkline([3, 3, 3], 10, plain=False) == "▁▁▁"
    assert sparkline([], 10, plain=False) == ""
    long = sparkline(list(range(100)), 8, plain=False)
    assert len(long) == 8
    assert long == "".join(sorted(long))
    assert long[-1] == "█"
