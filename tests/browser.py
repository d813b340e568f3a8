"""A real Chromium without a window, for the tests that look at pages."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",  # as on a phone, where they take no width
)
SECONDS = 120.0  # on a machine that does other things too


class Browser:
    """One page at a time; whatever is not here is in `driver`, Selenium's own."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.width = 0

    def open(self, page: str | Path, width: int = 1280, height: int = 900) -> None:
        """Open an address or a file in a window of that size, in light colours."""
        self.driver.get("about:blank")
        self.console()  # what an earlier page said
        self.resize(width, height)
        self.media(scheme="light")
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def resize(self, width: int, height: int = 900) -> None:
        """Show the page `width` CSS pixels wide; below 600 as a phone does."""
        self.width = width
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)

    def media(self, scheme: str) -> None:
        """Prefer `light` or `dark` colours."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.command("Emulation.setEmulatedMedia", features=features)

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, expression: str, seconds: float = SECONDS) -> Any:
        """The value of a JavaScript expression as soon as it is true of the page.

        Raises:
            AssertionError: it stayed false; the console's errors are named.
        """
        deadline = time.monotonic() + seconds
        while not (value := self.run(f"return ({expression})")):
            problem = f"in vain for {expression}"
            assert time.monotonic() < deadline, f"{problem}; console: {self.errors()}"
            time.sleep(0.05)
        return value

    def console(self) -> list[dict[str, Any]]:
        """What the page wrote to the console since the last call."""
        return list(self.driver.get_log("browser"))

    def errors(self) -> list[str]:
        """Errors in the console since the last call: exceptions, and files that are missing."""
        return [entry["message"] for entry in self.console() if entry["level"] == "SEVERE"]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        # A phone zooms out until all of a page is seen, and innerWidth grows with it.
        needed = self.run("return Math.max(document.documentElement.scrollWidth, innerWidth)")
        return int(needed) - self.width

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a point of the window."""
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own; apt-get install chromium chromium-driver."""
    options = ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for switch in (*_SWITCHES, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        driver = Chrome(options=options, service=ChromeService(_program("chromedriver")))
        try:
            yield Browser(driver)
        finally:
            driver.quit()


def _program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, f"{names[0]} is missing: apt-get install chromium chromium-driver"
    return found
