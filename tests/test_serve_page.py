"""The pages of `clapp serve` in a real browser, without anything from elsewhere."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from PIL import Image
from serving import Server, serving

from tests.test_infer import save_model

SIZE = (120, 80)
PIXEL = (
    "Array.from(document.getElementById('view').getContext('2d').getImageData({}, {}, 1, 1).data)"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "edges", capacity=2, num_layers=1, padding="reflect")
    save_model(folder / "colour", capacity=1, num_layers=1, output_channels=3)
    gaussian = {"train_data": {"target_filter": "gaussian"}, "parameter": {"sigma": [0.5, 3]}}
    save_model(folder / "gaussian", None, gaussian, input_channels=4, num_layers=1)
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(pixels).save(folder / "in.png")
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models, *(models / name for name in ("edges", "colour", "gaussian"))) as opened:
        yield opened


def grey(server: Server, models: Path, name: str, what: str) -> np.ndarray:
    content = (models / "in.png").read_bytes()
    answer = server.client.post(f"/v1/models/{name}/{what}", content=content)
    with Image.open(io.BytesIO(answer.content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def give(browser: Browser, path: Path) -> None:
    browser.driver.find_element("id", "file").send_keys(str(path))


def move(browser: Browser, name: str, value: str | int) -> None:
    """Set a control as a user does, so that the page hears of it."""
    browser.run(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input')); one.dispatchEvent(new Event('change'))",
        name,
        str(value),
    )


def pixel(browser: Browser, x: int, y: int) -> list[int]:
    return browser.run(f"return {PIXEL.format(x, y)}")[:3]


def text(browser: Browser, name: str) -> str:
    return str(browser.run("return document.getElementById(arguments[0]).textContent", name))


SHOWN = "!document.getElementById('result').hidden"
DONE = "!document.body.classList.contains('busy') && document.getElementById('model').value"


@pytest.fixture
def page(browser: Browser, server: Server, models: Path) -> Browser:
    browser.open(f"{server.url}/")
    browser.wait_for(DONE)
    give(browser, models / "in.png")
    browser.wait_for(SHOWN)
    return browser


def test_a_picture_its_filter_and_its_model_side_by_side(
    page: Browser, server: Server, models: Path
) -> None:
    found = {what: grey(server, models, "edges", what) for what in ("apply", "filter")}
    assert text(page, "filter") == "stands in for sobel_3"
    left, right = (10, 40), (110, 40)
    assert pixel(page, *left) == found["filter"][left[::-1]].tolist()
    assert pixel(page, *right) == found["apply"][right[::-1]].tolist()
    move(page, "split", 0)
    assert pixel(page, *left) == found["apply"][left[::-1]].tolist()
    move(page, "split", 100)
    assert pixel(page, *right) == found["filter"][right[::-1]].tolist()
    move(page, "left", "input")
    with Image.open(models / "in.png") as image:
        assert tuple(pixel(page, *left)) == image.getpixel(left)
    off = np.abs(found["apply"] - found["filter"])
    move(page, "left", "difference")
    for gain in (1, 10, 100):
        move(page, "gain", gain)
        expected = np.minimum(255, gain * off[left[::-1]]).tolist()
        assert pixel(page, *left) == expected
    words = text(page, "facts")
    assert words.startswith("120×80 pixels, the model took ")
    assert words.endswith(f"{off.mean():.2f} grey levels on average, {off.max()} at most")
    assert page.errors() == []


def test_another_model(page: Browser, server: Server, models: Path) -> None:
    move(page, "split", 0)
    expected = grey(server, models, "colour", "apply")[40, 10].tolist()
    move(page, "model", "colour")
    page.wait_for(f"{DONE} && String({PIXEL.format(10, 40)}.slice(0, 3)) == String({expected})")
    assert page.errors() == []


def test_a_setting_is_a_control(page: Browser, server: Server, models: Path) -> None:
    move(page, "split", 100)
    move(page, "model", "gaussian")
    for sigma in (0.5, 3):
        page.run(
            "const one = document.querySelector('#settings input'); one.value = arguments[0];"
            "one.dispatchEvent(new Event('input')); one.dispatchEvent(new Event('change'))",
            str(sigma),
        )
        name = f"gaussian/filter?set=sigma={sigma}"
        content = (models / "in.png").read_bytes()
        answer = server.client.post(f"/v1/models/{name}", content=content)
        with Image.open(io.BytesIO(answer.content)) as image:
            expected = np.asarray(image.convert("RGB")).astype(int)[40, 10].tolist()
        page.wait_for(f"{DONE} && String({PIXEL.format(10, 40)}.slice(0, 3)) == String({expected})")
        assert page.run("return document.querySelector('#settings output').textContent") == str(
            sigma
        )
    move(page, "model", "edges")
    page.wait_for(f"{DONE} && !document.querySelector('#settings input')")
    assert page.errors() == []


def test_a_picture_is_dropped_and_the_boundary_is_dragged(
    page: Browser, server: Server, models: Path
) -> None:
    page.run(
        "document.getElementById('error').textContent = ''; shown.model = null;"
        "document.getElementById('result').hidden = true;"
        "fetch('v1/models/edges/apply', {method: 'POST', body: file}).then(r => r.blob())"
        ".then(blob => { const data = new DataTransfer();"
        "data.items.add(new File([blob], 'dropped.png', {type: 'image/png'}));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true})) })"
    )
    page.wait_for(f"{SHOWN} && !!shown.model")
    assert page.run("return file.name") == "dropped.png"
    x, y, width = page.run(
        "const box = document.getElementById('view').getBoundingClientRect();"
        "return [box.left, box.top + box.height / 2, box.width]"
    )
    place = {"x": x + width / 4, "y": y, "button": "left", "clickCount": 1}
    page.command("Input.dispatchMouseEvent", type="mousePressed", **place)
    page.command("Input.dispatchMouseEvent", type="mouseReleased", **place)
    page.wait_for("document.getElementById('split').value === '25'")
    assert page.errors() == []


def test_what_the_server_refuses_is_said(page: Browser, models: Path) -> None:
    give(page, models / "text.png")
    page.wait_for("!document.getElementById('error').hidden")
    assert text(page, "error") in (
        "The file is no picture.",
        "the body is neither a PNG nor a JPEG file; raw pixels need ?width= and ?height=",
    )
    assert page.run("return document.getElementById('result').hidden")
    give(page, models / "in.png")
    page.wait_for(SHOWN)
    assert page.run("return document.getElementById('error').hidden")


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_window(page: Browser, width: int) -> None:
    page.resize(width)
    assert page.overflow() == 0


def test_the_description_of_the_addresses_needs_no_other_server(
    browser: Browser, server: Server
) -> None:
    browser.open(f"{server.url}/docs")
    browser.wait_for("document.querySelectorAll('.opblock').length")
    paths = browser.run(
        "return [...document.querySelectorAll('.opblock-summary-path')].map(p => p.dataset.path)"
    )
    assert set(paths) == {
        "/v1/models",
        "/v1/models/{name}/{what}",
        "/health",
        "/ready",
        "/metrics",
    }
    loaded = browser.run("return performance.getEntriesByType('resource').map(one => one.name)")
    assert len(loaded) >= 3
    assert all(name.startswith((server.url, "data:")) for name in loaded)
    assert browser.errors() == []
