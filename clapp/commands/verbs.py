"""Helpers of the verbs of `clapp`: completion of values in shells, and hints for unknown verbs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from clapp.errors import UserError

START = "`clapp-optimize --study NAME` starts a search, `clapp init` writes a study"
ELSEWHERE = {
    **dict.fromkeys(("optimize", "search", "run", "start", "study"), START),
    "version": "`clapp --version` prints the version",
    "help": "`clapp --help` lists the verbs, `clapp VERB --help` explains one",
}
"""Words that users may try as verbs -> a hint."""


class Verbs(TyperGroup):
    """The group of verbs; an unknown word gets a hint about the next command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Typer does it.

        Raises:
            UserError: what the first word means is another command.
        """
        if args and args[0] in ELSEWHERE and self.get_command(ctx, args[0]) is None:
            raise UserError(f"clapp {args[0]}: no such verb; {ELSEWHERE[args[0]]}")
        return super().resolve_command(ctx, args)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})


def complete_study(incomplete: str) -> list[str]:
    """Studies that can be run: those of the package and of ./studies, and YAML files here."""
    from clapp.system.files import data_dir

    folders = (Path("studies"), data_dir("studies"))
    names = [path.stem for folder in folders for path in folder.glob("*.yaml")]
    return _beginning(incomplete, [*names, *(path.name for path in Path().glob("*.yaml"))])


def complete_started(ctx: typer.Context, incomplete: str) -> list[str]:
    """Studies with results."""
    from clapp.study.storage.place import study_files

    results = Path(ctx.params.get("results") or "results")
    return _beginning(incomplete, (path.parent.name for path in study_files(results)))


def complete_filter(incomplete: str) -> list[str]:
    """Filters of the library."""
    from clapp.filters.library import known_filters

    return _beginning(incomplete, known_filters())


def complete_space(incomplete: str) -> list[str]:
    """Search spaces."""
    from clapp.study.plan.files import known_spaces

    return _beginning(incomplete, (path.stem for path in known_spaces()))


def complete_key(incomplete: str) -> list[str]:
    """Keys of configurations and studies."""
    from clapp.commands.setup.schemas import configuration_keys, study_keys

    return _beginning(incomplete, [*configuration_keys(), *study_keys()])
