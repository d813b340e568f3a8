"""Completion in a real bash, versions, and words that are no verb."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clapp import __version__
from clapp.commands.app import app
from clapp.commands.optimize import app as optimize
from clapp.commands.verbs import ELSEWHERE
from clapp.errors import UserError

ROOT = Path(__file__).parents[1]
RUN = CliRunner()
TAB = """
words=({words})
COMP_WORDS=("${{words[@]}}") COMP_CWORD={last} COMP_LINE="${{words[*]}}"
COMP_TYPE=9 COMP_KEY=9 COMP_POINT=${{#COMP_LINE}}
complete -p {command} | grep -q -- '-F {function}' || exit 3
{function} {command}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def bash(home: Path, script: str) -> str:
    """What an interactive bash with that home says, started as a terminal starts one."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT)}
    # With a command behind it, bash stays the parent of `script`, as it is in a terminal.
    words = ["bash", "--rcfile", str(home / ".bashrc"), "-ic", f"{script}\nexit $?"]
    done = subprocess.run(
        words, env=env, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tab(home: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    function = f"_{words[0].replace('-', '_')}_completion"
    quoted = " ".join(map(shlex.quote, words))
    script = TAB.format(words=quoted, last=len(words) - 1, command=words[0], function=function)
    return bash(home, script).split()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which completion was installed as the documentation says."""
    folder = tmp_path_factory.mktemp("home")
    for command in ("clapp", "clapp-optimize"):
        assert "completion installed" in bash(folder, f"{command} --install-completion")
    (folder / "results" / "corners").mkdir(parents=True)
    (folder / "results" / "corners" / "study.journal").touch()
    (folder / "mine.yaml").touch()
    return folder


def test_bash_completes_verbs_options_and_names(home: Path) -> None:
    assert tab(home, "clapp", "fr") == ["front"]
    assert "--schema" in tab(home, "clapp", "config", "--s")
    assert tab(home, "clapp", "front", "") == ["corners"]
    assert tab(home, "clapp", "filters", "sobel_") == ["sobel_3", "sobel_canny_5"]
    assert tab(home, "clapp", "spaces", "filternet_") == ["filternet_color"]
    assert tab(home, "clapp", "config", "--explain", "budget.") == [
        "budget.timeout",
        "budget.trials",
    ]
    assert tab(home, "clapp-optimize", "--study", "m") == [
        "median",
        "median_color",
        "mine.yaml",
        "morph_gradient",
    ]


def test_both_commands_print_the_version() -> None:
    for one in (app, optimize):
        assert RUN.invoke(one, ["--version"]).stdout.strip() == __version__


@pytest.mark.parametrize("word", ELSEWHERE)
def test_a_word_that_is_no_verb_has_a_next_command(word: str) -> None:
    error = RUN.invoke(app, [word, "sobel3"]).exception
    assert isinstance(error, UserError)
    assert "`clapp" in str(error)


def test_other_words_are_compared_with_the_verbs() -> None:
    assert "Did you mean 'front'" in RUN.invoke(app, ["fronts"]).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("front sobel3", "`clapp-optimize --study sobel3`"),
        ("studies", "`clapp-optimize --study sobel3`"),
        ("evaluate nowhere photos:validation", "`clapp export STUDY`"),
        ("infer nowhere in.png out.png", "nowhere"),
        ("report nonsense", "`clapp init`"),
    ],
)
def test_an_error_says_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = RUN.invoke(app, words.split()).exception
    assert isinstance(error, UserError)
    assert said in str(error)
