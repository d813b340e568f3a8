"""`clapp filters`: the list, one filter, its picture, and the page of all."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clapp.commands.app import app
from clapp.commands.filters import photographs
from clapp.errors import ConfigError, UserError
from clapp.filters.library import apply_filter, known_filters

RUN = CliRunner()


def call(*words: str) -> str:
    done = RUN.invoke(app, ["filters", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_all_are_listed() -> None:
    lines = call().splitlines()
    assert [line.split()[0] for line in lines[1:] if line[0] != " "] == known_filters()
    documents = json.loads(call("--json"))
    assert [one["name"] for one in documents] == known_filters()
    assert all(one["summary"] and one["source"] for one in documents)


def test_one_is_shown_with_its_parameters() -> None:
    shown = call("{name: canny, low: 20}")
    for text in (
        "canny(low=20): Edges by hysteresis",
        "cv2.Canny",
        "1 in, 1 out",
        "high",
        "3, 5, 7",
    ):
        assert text in shown
    document = json.loads(call("{name: canny, low: 20}", "--json"))
    assert document["parameters"]["low"] == {
        "value": 20.0,
        "default": 50,
        "allowed": "numbers from 0 to 100000",
    }
    assert "pixels up to 2 away" in call("[{name: box, ksize: 3}, laplacian]")


def test_a_picture_holds_what_the_filter_returns(tmp_path: Path) -> None:
    path = tmp_path / "sepia.png"
    call("sepia", "--picture", str(path))
    drawn = np.asarray(Image.open(path))
    first = np.ascontiguousarray(photographs()[0])
    assert drawn.shape == (448, 3 * 224, 3)
    np.testing.assert_array_equal(drawn[:224, :224], first)
    np.testing.assert_array_equal(drawn[224:, :224], apply_filter("sepia", first))


def test_the_gallery_is_one_page_that_needs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "gallery.html"
    call("--gallery", str(path))
    page = path.read_text()
    assert re.findall(r'<article id="(\w+)">', page) == known_filters()
    assert page.count("<img ") == 2 * len(known_filters()) + 2
    assert set(re.findall(r'(?:src|href)="([^,"]*)', page)) == {"data:image/webp;base64"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cany"], "did you mean canny"),
        (["{name: median, ksize: 2}"], "filter median: ksize 2 is not allowed"),
        (["--picture", "x.png"], "say which filter"),
        (["canny", "--gallery", "x.html"], "leave 'canny' out"),
        (["canny", "--picture", "x.doc"], "'.doc' is no format"),
        (["canny", "--picture", "/dev/null/x.png"], "cannot be written"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str) -> None:
    with pytest.raises((ConfigError, UserError), match=re.escape(message)):
        RUN.invoke(app, ["filters", *words], catch_exceptions=False)
