"""The live display in tmux, a real terminal: drawn, resized, interrupted."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUDY = """
search_space:
  model.capacity: {type: int, low: 1, high: 6}
baselines:
  reference: {train: {min_iterations: 1, max_iterations: 20}}
  smaller: {model: {capacity: 1}, train: {min_iterations: 1, max_iterations: 20}}
  endless: {model: {capacity: 2}}
config:
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 2}
  train: {batch_size: 2, max_iterations: 9999999, min_iterations: 9999998, validation_interval: 20}
budget: {trials: 9}
"""
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])(?:;\d+)*m")


class Tmux:
    """A tmux server of our own with one window."""

    def __init__(self, socket: Path, folder: Path) -> None:
        self._socket, self._folder = str(socket), folder

    def __call__(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-S", self._socket, "-f", "/dev/null", *arguments]
        # Readline, which pytest imports, leaves COLUMNS and LINES behind: where only C sees them,
        # and so in the environment of the processes of pytest-xdist.
        size = ("COLUMNS", "LINES")
        environment = {name: v for name, v in os.environ.items() if name not in size}
        return subprocess.run(
            command,
            cwd=self._folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout

    def start(self, command: str, **variables: str) -> None:
        """Run `command` in a window of 80 columns and 24 lines that outlives it."""
        given = [f"-e{name}={value}" for name, value in variables.items()]
        self("new-session", "-d", "-x", "80", "-y", "24", *given, f"{command}; sleep 600")

    def lines(self, *options: str) -> list[str]:
        """What the window shows."""
        return self("capture-pane", "-p", *options).splitlines()

    def wait(self, until: Callable[[list[str]], bool], seconds: float = 150) -> list[str]:
        """What it shows as soon as that is as it should be."""
        deadline = time.monotonic() + seconds
        while not until(lines := self.lines()):
            assert time.monotonic() < deadline, "\n".join(lines)
            time.sleep(0.3)
        return lines

    def value(self, name: str) -> str:
        """A format variable of tmux."""
        return self("display-message", "-p", f"#{{{name}}}").strip()


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    (tmp_path / "mine.yaml").write_text(STUDY)
    server = Tmux(tmp_path / "s", tmp_path)
    yield server
    subprocess.run(["tmux", "-S", str(tmp_path / "s"), "kill-server"], check=False)


def shows(*parts: str) -> Callable[[list[str]], bool]:
    return lambda lines: all(part in "\n".join(lines) for part in parts)


def whole(lines: list[str]) -> bool:
    """Whether the display has been drawn from its first line to its last."""
    return lines[0].startswith("mine ") and shows("worker 0:", "Ctrl-C stops")(lines)


def test_in_tmux_the_display_follows_the_window_and_leaves_it_clean(tmux: Tmux) -> None:
    tmux.start(
        f"{sys.executable} {ROOT}/optimize.py --study mine.yaml --workers 1",
        **{name: os.environ[name] for name in ("CLAPP_CACHE", "OMP_NUM_THREADS")},
        PYTHONPATH=str(ROOT),
        LANG="C.UTF-8",
        NO_COLOR="1",
        CI="",  # in which it would print plain lines
    )
    small = tmux.wait(shows("2 of 9 trials", "loss by params", "trial 2: step", " dB)"))
    assert small[0].startswith("mine ━")
    assert small[0].endswith("running for " + small[0].split()[-1])
    assert any("loss  parameters" in line and "●" in line + small[n + 1] + small[n + 2]
               for n, line in enumerate(small[:-2]))  # fmt: skip
    assert tmux.value("alternate_on") == "1"
    assert not COLOUR.search("\n".join(tmux.lines("-e")))
    earlier = small[0]
    tmux.wait(lambda lines: lines[0] != earlier and lines[0].startswith("mine ━"), 30)

    tmux("resize-window", "-x", "160", "-y", "50")
    wide = tmux.wait(lambda lines: whole(lines) and shows("hypervolume by trials")(lines), 30)
    tmux("resize-window", "-x", "40", "-y", "24")
    narrow = tmux.wait(lambda lines: whole(lines) and not shows("hypervolume by trials")(lines), 30)
    for lines in (small, wide, narrow):
        text = "\n".join(lines)
        assert lines[0].startswith("mine ")
        assert (text.count("Ctrl-C stops"), text.count("worker 0:")) == (1, 1)

    tmux("resize-window", "-x", "100", "-y", "30")
    tmux("send-keys", "C-c")
    end = tmux.wait(shows("interrupted after 2 of 9 trials"), 60)
    assert "Ctrl-C stops" not in "\n".join(end)
    assert any(line.startswith("mine: 0 of 9 trials trained") for line in end)
    assert (tmux.value("alternate_on"), tmux.value("cursor_flag")) == ("0", "1")
