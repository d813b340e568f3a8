"""The report in a real browser, as somebody reads it who got it by mail."""

import base64
import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from browser import Browser
from optuna.trial import create_trial
from synthetic import made_up_study

from clapp.front.outcomes import front_of
from clapp.report.page import Source, render, write_report
from clapp.study.plan.existing import load_existing

# set_metric_names is experimental in Optuna.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

PHONE = 390
POINT = """
const plot = document.getElementById(arguments[0]);
plot.scrollIntoView({block: "center", behavior: "instant"});
const trace = plot.data.find((one) => one.name === "front");
const box = plot.getBoundingClientRect(), axes = plot._fullLayout;
return [box.left + axes.xaxis._offset + axes.xaxis.d2p(trace.x[arguments[1]]),
        box.top + axes.yaxis._offset + axes.yaxis.d2p(trace.y[arguments[1]]),
        trace.customdata[arguments[1]]];
"""


@pytest.fixture(scope="module")
def report(small_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(
        ["small"], small_study, out=tmp_path_factory.mktemp("mail") / "report.html"
    ).path


@pytest.fixture(scope="module")
def front(small_study: Path) -> list[dict[str, object]]:
    document = json.loads((small_study / "small" / "front.json").read_text())
    return list(document["front"])


def show(browser: Browser, page: Path, width: int = 1280) -> None:
    browser.open(page, width)
    browser.wait_for("document.documentElement.dataset.drawn")


@pytest.fixture
def shown(browser: Browser, report: Path) -> Browser:
    """The report in a wide window, in light colours; drawn once for all tests of it."""
    if browser.driver.current_url != report.as_uri():
        show(browser, report)
    browser.resize(1280)
    browser.media("light")
    return browser


def test_every_figure_is_drawn_without_an_error(shown: Browser, front) -> None:
    assert shown.errors() == []
    assert shown.overflow() == 0
    assert shown.run(
        "return [...document.querySelectorAll('[data-figure]')].every((plot) => plot.data && "
        "plot.querySelector('svg'))"
    )
    for figure in ("s1-front-params", "s1-front-flops", "s1-front-space"):
        trials = shown.run(
            f"return document.getElementById('{figure}').data.find((t) => t.name === 'front')"
            ".customdata"
        )
        assert trials == [row["trial"] for row in front]
    points = "document.querySelectorAll('#s1-front-params .scatterlayer .trace')[1]"
    assert shown.run(f"return {points}.querySelectorAll('.point').length") == len(front)


def test_the_mouse_over_a_point_shows_its_configuration_and_preview(shown: Browser, front) -> None:
    assert shown.run("return document.getElementById('card').hidden")
    last = len(front) - 1
    x, y, number = shown.run(POINT, "s1-front-params", last)
    assert number == front[last]["trial"]
    shown.hover(x - 30, y - 30)
    shown.hover(x, y)
    shown.wait_for("!document.getElementById('card').hidden")
    text = shown.run("return document.getElementById('card').innerText")
    assert text.startswith(f"Trial {number}")
    assert f"{front[last]['params']:,}" in text
    assert "learning_rate" in text
    picture = "document.querySelector('#card img')"
    assert shown.wait_for(f"{picture} && {picture}.naturalWidth") > 200
    assert shown.run(
        f"return {picture}.src === document.querySelector('#s1-trial-{number} img').src"
    )
    box = shown.run("return document.getElementById('card').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0
    assert box["right"] <= 1280
    assert box["bottom"] <= 900


def test_its_commands_find_the_study(small_study: Path, report: Path) -> None:
    command = f"clapp export small --pick knee --results {small_study}"
    assert command in report.read_text(encoding="utf-8")


def test_a_phone_does_not_scroll_sideways(browser: Browser, report: Path) -> None:
    show(browser, report, PHONE)
    assert browser.overflow() == 0
    assert browser.run(
        "const table = document.querySelector('table.picks').getBoundingClientRect();"
        "return [...document.querySelectorAll('table.picks td')]"
        ".every((cell) => cell.getBoundingClientRect().right <= table.right + 1)"
        " && table.right <= innerWidth"
    )
    browser.resize(320)
    assert browser.overflow() == 0
    assert browser.errors() == []


def test_dark_and_light(shown: Browser) -> None:
    ink = "getComputedStyle(document.querySelector('#s1-front-params .xtick text')).fill"
    page = "return getComputedStyle(document.body).backgroundColor"
    light, white = shown.run(f"return {ink}"), shown.run(page)
    shown.media("dark")
    shown.wait_for(f"{ink} !== '{light}'")
    assert shown.run(page) != white
    shown.media("light")
    shown.wait_for(f"{ink} === '{light}'")


def test_on_paper_it_is_light_and_whole(shown: Browser) -> None:
    shown.media("dark")
    shown.run(
        "addEventListener('beforeprint', () => {"
        " window.paper = document.documentElement.className;"
        " window.width = document.querySelector('#s1-front-params svg').clientWidth; });"
    )
    printed = shown.command("Page.printToPDF", printBackground=True)
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    assert shown.run("return [window.paper, window.width]") == ["paper", 680]
    assert shown.run("return document.documentElement.className") == ""
    assert shown.errors() == []


def test_for_a_keyboard_and_a_screen_reader(shown: Browser) -> None:
    levels = shown.run(
        "return [...document.querySelectorAll('h1, h2, h3, h4, h5')].map((h) => +h.tagName[1])"
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert shown.run("return [...document.images].every((picture) => picture.alt.length > 40)")
    assert shown.run(
        "return [...document.querySelectorAll('[role=img]')]"
        ".every((plot) => plot.ariaLabel.length > 30)"
    )
    assert shown.run(
        "return [...document.querySelectorAll('a[href^=\"#\"]')]"
        ".every((link) => document.querySelector(link.hash))"
    )


def test_names_of_a_study_cannot_run_anything(
    browser: Browser, small_study: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_study / "small", tmp_path / "small")
    study = load_existing("small", tmp_path)
    evil = "<img src=x onerror='window.evil=1'></script><script>window.evil=1</script>"
    facts = {"config": {"model.activation": evil}, "loss": 1e-6, "params": 3, "flops": 9}
    study.add_trial(
        create_trial(values=[1e-6, 3, 9], user_attrs={**facts, "baseline": evil, "worker": evil})
    )
    page = tmp_path / "evil.html"
    page.write_text(render([Source(study, tmp_path / "small", evil)]))
    show(browser, page)
    x, y, _ = browser.run(POINT, "s1-front-params", 0)
    browser.hover(x - 30, y + 30)
    browser.hover(x, y)
    browser.wait_for("!document.getElementById('card').hidden")
    assert evil in browser.run("return document.getElementById('card').innerText")
    assert browser.run("return window.evil") is None
    assert browser.errors() == []


def test_several_studies_on_one_page(browser: Browser, small_study: Path, tmp_path: Path) -> None:
    shutil.copytree(small_study / "small", tmp_path / "other")
    page = tmp_path / "both.html"
    folders = [str(small_study / "small"), str(tmp_path / "other")]
    write_report(folders, tmp_path, out=page)
    show(browser, page, PHONE)
    assert browser.overflow() == 0
    names = "return document.getElementById('all-params').data.map((trace) => trace.name)"
    assert browser.run(names) == ["small", "small: reference", "other", "other: reference"]
    front = "document.getElementById('s2-front-params')"
    assert browser.run(f"return {front}.data === undefined")
    browser.run("document.getElementById('s2').open = true")
    browser.wait_for(f"{front}.data")
    assert browser.overflow() == 0
    assert browser.errors() == []


NAMES_ON_NAMES = """
const found = [];
for (const plot of document.querySelectorAll('#s1-front-params, #s1-front-flops')) {
  const names = [...plot.querySelectorAll('.textpoint text')].filter((one) => one.textContent);
  const boxes = names.map((one) => one.getBoundingClientRect());
  boxes.forEach((a, i) => boxes.slice(0, i).forEach((b, j) => {
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (width > 0 && height > 0) found.push(names[j].textContent + ' on ' + names[i].textContent);
  }));
}
return found;
"""


def test_no_name_of_a_point_lies_on_another(browser: Browser, tmp_path: Path) -> None:
    study = made_up_study(40)
    best = min(front_of(study), key=lambda one: one.loss)
    for number, name in enumerate(("gauss", "magnitude", "wide", "plain sobel")):
        facts = {
            "config": dict(best.config),
            "key": name,
            "params": best.params + 3 * number,
            "flops": best.flops,
            "loss": best.loss * (1 + 0.01 * number),
            "baseline": name,
        }
        values = [facts["loss"], facts["params"], facts["flops"]]
        study.add_trial(create_trial(values=values, user_attrs=facts))
    page = tmp_path / "page.html"
    page.write_text(render([Source(study, tmp_path, study.study_name)]), encoding="utf-8")
    for width in (1280, PHONE):
        show(browser, page, width)
        assert browser.run(NAMES_ON_NAMES) == []
        names = browser.run(
            "const { data } = document.getElementById('s1-front-params');"
            "return data.flatMap((one) => one.text || [])"
        )
        assert {"reference", "knee and min-loss"} <= set(names)
