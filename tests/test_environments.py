"""Where CLAPP is started: closed streams, no reader, other locales and packages, files beside."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import cv2
import pytest

from clapp.errors import UserError
from clapp.pool.eviction import cache_dir
from clapp.system.console import plain_console
from clapp.training import provenance

ROOT = Path(__file__).parents[1]
CLAPP = f"{sys.executable} -m clapp"
STUDY = """
search_space: {model.activation: {type: categorical, choices: [abs, square]}}
config:
  train_data: {target_filter: "mine:f", resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {target_filter: "mine:f", resize_base: 64, crop_size: 32, num_images: 2}
  model: {capacity: 1}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 5, validation_interval: 5}
budget: {trials: 1}
"""
FILTER = "import cv2\n\n\ndef f(image):\n    return 255 - cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)\n"


MINE = "raise SystemExit('a file of the user was imported')\n"


def shell(script: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = ["bash", "-o", "pipefail", "-c", script]
    return subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_files_of_the_user_are_not_taken_for_modules(tmp_path: Path) -> None:
    """Processes that a study starts import nothing from the working directory but the filter."""
    for name in ("random", "datasets", "types", "numpy", "clapp", "logging"):
        (tmp_path / f"{name}.py").write_text(MINE)
    (tmp_path / "mine.py").write_text(FILTER)
    (tmp_path / "net[v2].yaml").write_text(STUDY)
    start = "from clapp.commands.optimize import main; main()"
    done = shell(
        f"{sys.executable} -P -c '{start}' --study 'net[v2].yaml' --workers 1 --results r", tmp_path
    )
    log = (tmp_path / "r/net[v2]/logs/worker-0.log").read_text()
    assert done.returncode == 0, done.stderr + log
    assert "net[v2]: 1 complete" in done.stdout
    for verb in ("studies", "front 'net[v2]'", "report 'net[v2]'"):
        shown = shell(f"{CLAPP} {verb} --results {tmp_path}/r", ROOT)
        assert "net[v2]" in shown.stdout, verb
    page = (tmp_path / "r/net[v2]/report.html").read_text()
    assert "net[v2]" in page


def test_the_command_as_a_module_beside_files_of_the_user(tmp_path: Path) -> None:
    for name in ("random", "datasets", "logging", "typer"):
        (tmp_path / f"{name}.py").write_text(MINE)
    done = shell(f"{CLAPP} --version", tmp_path)
    assert done.stdout.strip() == "0.1.0", done.stderr


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table("study")
    table.add_row("net[v2] :cat: [bold]x[/]")
    plain_console().print(table)
    plain_console().print("one[red]: [/x]")
    printed = capsys.readouterr().out
    assert "net[v2] :cat: [bold]x[/]" in printed
    assert "one[red]: [/x]" in printed


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-"])
def test_closed_streams(small_study: Path, closed: str) -> None:
    done = shell(f"{CLAPP} studies --results {small_study} {closed}")
    assert done.returncode == 0
    assert "small" in done.stdout


def test_what_is_printed_to_a_closed_output_reaches_no_file(small_study: Path) -> None:
    done = shell(f"{CLAPP} studies --results {small_study} >&-")
    assert (done.returncode, done.stderr) == (0, "")
    again = shell(f"{CLAPP} studies --results {small_study}")
    assert "small" in again.stdout


@pytest.mark.parametrize("verb", ["studies", "studies --json", "front small", "train --help"])
def test_the_reader_is_gone(small_study: Path, verb: str) -> None:
    where = "" if "help" in verb else f"--results {small_study}"
    done = shell(f"{{ sleep 0.1; {CLAPP} {verb} {where}; }} | true")
    assert done.returncode == 141
    assert done.stderr == ""


@pytest.mark.parametrize("verb", ["studies", "studies --json"])
def test_no_room_for_the_output(small_study: Path, verb: str) -> None:
    done = shell(f"{CLAPP} {verb} --results {small_study} > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("encoding", ["C", "ISO-8859-1"])
def test_locales_that_lack_characters(small_study: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "漢字").symlink_to(small_study)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    latin = {"PYTHONIOENCODING": "iso-8859-1"}
    chosen = ascii_only if encoding == "C" else latin
    done = shell(f"{CLAPP} front 漢 --results '{tmp_path}/漢字'", **chosen)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLAPP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "clapp"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user id that has no entry
    with pytest.raises(UserError, match=r"no home folder .* set HOME, or CLAPP_CACHE"):
        cache_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "clapp"


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ({"opencv-python": "4.9", "opencv-python-headless": "4.8"}, "4.9"),
        ({"opencv-python-headless": "4.9"}, "4.9 (opencv-python-headless)"),
        ({"opencv-contrib-python": "4.9"}, "4.9 (opencv-contrib-python)"),
        ({}, cv2.__version__),
    ],
)
def test_another_package_of_opencv(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], said: str
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(provenance, "version", version)
    found = provenance.versions.__wrapped__()
    assert found["opencv-python"] == said
    assert found["torch"].startswith("2.")
