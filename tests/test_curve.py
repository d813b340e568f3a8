import re
from xml.etree import ElementTree

import pytest

from clapp.training.curve import curve_svg

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [str(one.text) for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def line(svg: str) -> list[tuple[float, float]]:
    (one,) = ElementTree.fromstring(svg).iter(f"{SVG}polyline")
    return [tuple(map(float, point.split(","))) for point in one.attrib["points"].split()]


def test_decades_are_equal_steps_and_iterations_equal_widths():
    svg = curve_svg([(100, 0.1), (200, 0.01), (400, 0.0001)])
    title, *labels = texts(svg)
    assert title == "loss 0.0001 (40.0 dB) after 400 iterations"
    assert labels == ["0.0001", "0.001", "0.01", "0.1", "0", "100", "200", "300", "400"]
    (x1, y1), (x2, y2), (x3, y3) = line(svg)
    assert x3 - x2 == pytest.approx(2 * (x2 - x1), abs=0.2)
    assert y3 - y2 == pytest.approx(2 * (y2 - y1), abs=0.2)
    assert y1 < y2 < y3  # downwards, as the loss


def test_a_narrow_range_has_marks_between_the_decades():
    labels = texts(curve_svg([(50, 0.0061), (300, 0.0023)]))[1:]
    assert labels[:3] == ["0.002", "0.005", "0.01"]


@pytest.mark.parametrize("l2", [0.0, 0.001, 0.02, 123.0])
@pytest.mark.parametrize("last", [1, 2, 7, 49, 61, 100, 6400, 12345])
def test_everything_lies_within_the_picture(last, l2):
    svg = curve_svg([(1, 0.1), (last, l2)] if last > 1 else [(1, l2)])
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 < x < width and 0 < y < height for x, y in line(svg))
    columns = re.findall(r'text-anchor="middle">([\d,]+)<', svg)
    assert 2 <= len(columns) <= 7
    assert columns[0] == "0"


def test_one_iteration():
    assert texts(curve_svg([(1, 0.5)]))[0] == "loss 0.5 (3.0 dB) after 1 iteration"
