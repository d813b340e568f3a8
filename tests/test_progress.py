"""What long waits tell, and how commands show it."""

import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clapp.system.console import status
from clapp.system.progress import tell, tell_if_slow, told_to

ROOT = Path(__file__).parents[1]
COMMAND = """
import sys, time
from loguru import logger
from clapp.system.console import log_to_stderr, status, run_app
from clapp.system.progress import tell
import typer
app = typer.Typer()
@app.command()
def command():
    log_to_stderr()
    with status("beginning"):
        time.sleep(0.6)
        tell("picture 1 of 2")
        logger.info("a log message")
        time.sleep(0.6)
    print("result")
run_app(app)
"""


def test_only_the_listener_of_the_moment_is_told() -> None:
    outer: list[str] = []
    inner: list[str] = []
    tell("nobody listens")
    with told_to(outer.append):
        tell("a")
        with told_to(inner.append):
            tell("b")
        tell("c")
    assert (outer, inner) == (["a", "c"], ["b"])


def test_threads_are_heard() -> None:
    heard: list[str] = []
    with told_to(heard.append):
        thread = threading.Thread(target=tell, args=("x",))
        thread.start()
        thread.join()
    assert heard == ["x"]


def test_what_is_quick_is_not_worth_a_word() -> None:
    heard: list[str] = []
    with told_to(heard.append):
        with tell_if_slow("quick", 5.0):
            pass
        with tell_if_slow("slow", 0.01):
            deadline = time.monotonic() + 10
            while not heard and time.monotonic() < deadline:
                time.sleep(0.01)
    assert heard == ["slow"]


def test_without_a_terminal_lines_come_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 3))  # seconds; looked at once for each telling, again if it speaks
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with status("beginning"):
        for number in range(1, 9):
            tell(f"picture {number} of 8")
    assert capsys.readouterr().err.splitlines() == ["picture 4 of 8", "picture 8 of 8"]


def on_a_terminal(**variables: str) -> tuple[bytes, bytes]:
    """What a command sends to its terminal, and what it prints."""
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        env=environment | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # Linux: the other side is closed
            break
        if not data:
            break
        drawn += data
    printed, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    return drawn, printed


def test_on_a_terminal_it_is_a_line_that_changes_and_goes() -> None:
    drawn, printed = on_a_terminal(LANG="C.UTF-8")
    assert printed == b"result\n"
    assert (
        drawn.index(b"beginning") < drawn.index(b"a log message") < drawn.rindex(b"picture 1 of 2")
    )
    assert "⠋".encode() in drawn
    assert b"\x1b[3" in drawn  # colours
    assert drawn.count(b"\x1b[?25l") == drawn.count(b"\x1b[?25h") == 1  # the cursor is back
    assert drawn.endswith((b"\x1b[2K", b"\x1b[1A\x1b[2K"))  # nothing stays


def test_no_colour_where_none_is_wanted() -> None:
    drawn, _ = on_a_terminal(LANG="C.UTF-8", NO_COLOR="1")
    assert b"beginning" in drawn
    assert not any(b"\x1b[3%d" % colour in drawn for colour in range(8))


@pytest.mark.parametrize("variables", [{"LANG": "C"}, {"LC_ALL": "POSIX"}, {}])
def test_a_terminal_of_the_c_locale_gets_ascii(variables: dict[str, str]) -> None:
    drawn, _ = on_a_terminal(**variables)
    assert b"picture 1 of 2" in drawn
    assert drawn.isascii()
