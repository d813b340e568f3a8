"""Command lines in files and pages: parsed as they would be, without running them."""

import shlex
from collections.abc import Iterator
from typing import Any

import typer

from clapp.commands import app, optimize

COMMANDS = {"clapp": app.app, "clapp-optimize": optimize.app}
_END = {"|", "&&", "||", ";", ">", ">>", "<"}


def parse(words: list[str]) -> None:
    """Parse a command line of ours.

    Raises:
        KeyError: there is no such command or verb.
        click's errors: an option does not exist, is missing, or its value is not allowed.
    """
    command: Any = typer.main.get_command(COMMANDS[words[0]])
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        command, rest = command.commands[rest[0]], rest[1:]
    if rest and rest[0] in ("--help", "--version", "--install-completion"):
        assert len(rest) == 1
        return
    command.make_context(words[0], rest)


def ours(script: str) -> Iterator[list[str]]:
    """The command lines of ours in a shell script, up to a pipe or the like."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True) if "clapp" in line else []
        while words:
            end = next((i for i, word in enumerate(words) if word in _END), len(words))
            if words[0] in COMMANDS:
                yield words[:end]
            words = words[end + 1 :]
