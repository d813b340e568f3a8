"""What the browser fixture promises to the tests that use it."""

from pathlib import Path

from browser import Browser

PAGE = """<!doctype html><meta name="viewport" content="width=device-width">
<style>@media (prefers-color-scheme: dark) {body {color: white}}</style>
<body style="margin: 0"><p style="width: 400px">wide</p>
<canvas width="9" height="9"></canvas><script>
document.addEventListener("mousemove", (e) => { window.seen = [e.clientX, e.clientY]; });
window.gl = document.querySelector("canvas").getContext("webgl") !== null;
setTimeout(() => { window.late = "there"; }, 100);
%s
</script>"""


def write(folder: Path, script: str = "") -> Path:
    path = folder / "page.html"
    path.write_text(PAGE % script)
    return path


def test_console_errors_are_those_of_the_present_page(browser: Browser, tmp_path: Path) -> None:
    browser.open(write(tmp_path, "console.log('fine'); throw new Error('broken');"))
    (error,) = browser.errors()
    assert "Error: broken" in error
    browser.open(write(tmp_path))
    assert browser.errors() == []


def test_a_phone_is_as_narrow_as_it_says(browser: Browser, tmp_path: Path) -> None:
    browser.open(write(tmp_path), width=360)
    assert browser.overflow() in (40, 41)  # the zoom is rounded
    browser.resize(800)
    assert browser.run("return window.innerWidth") == 800
    assert browser.overflow() == 0


def test_waiting_mouse_colours_and_webgl(browser: Browser, tmp_path: Path) -> None:
    browser.open(write(tmp_path))
    assert browser.wait_for("window.late") == "there"
    browser.hover(30, 40)
    assert browser.wait_for("window.seen") == [30, 40]
    colour = "return getComputedStyle(document.body).color"
    assert browser.run(colour) == "rgb(0, 0, 0)"
    browser.media("dark")
    assert browser.run(colour) == "rgb(255, 255, 255)"
    assert browser.run("return window.gl")
