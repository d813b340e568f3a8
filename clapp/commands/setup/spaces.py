"""`clapp spaces`: the search spaces, and the text of one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clapp.commands.options import AsJson
from clapp.commands.verbs import complete_space
from clapp.system.console import plain_console, print_json, status


def spaces(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SPACE", help="Print the file of this one.", autocompletion=complete_space
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """The search spaces: all of them, or the file of one."""
    with status("reading the search spaces"):
        from clapp.study.plan.files import find_space, known_spaces
        from clapp.system.files import read_mapping

        path = None if name is None else find_space(name)
        documents = [one_document(one) for one in (known_spaces() if path is None else [path])]
    if json:
        print_json(documents if path is None else documents[0] | {"keys": read_mapping(path)})
    elif path is not None:
        typer.echo(path.read_text(encoding="utf-8").rstrip())
    else:
        _print(documents)


def one_document(path: Path) -> dict[str, Any]:
    """The facts about the search space in a file.

    Raises:
        UserError: it cannot be read.
    """
    from clapp.system.files import read_mapping

    values = read_mapping(path)
    entry = values.get("model.family")
    chosen = entry.get("choices") if isinstance(entry, dict) else None
    return {
        "name": path.stem,
        "path": str(path),
        "parameters": len(values),
        "families": chosen or ["filternet"],
        "about": _first_sentence(path.read_text(encoding="utf-8")),
    }


def _first_sentence(text: str) -> str:
    """The first sentence of the comment at the start of a file; "" without one."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# yaml-language-server"):
            lines.append(line.lstrip("# "))
    return " ".join(lines).partition(". ")[0].rstrip(".")


def _print(documents: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("space", "parameters", "families", "about", box=None, pad_edge=False)
    for one in documents:
        families = ", ".join(map(str, one["families"]))
        table.add_row(one["name"], str(one["parameters"]), families, one["about"])
    plain_console().print(table)
    typer.echo("`clapp spaces SPACE` prints one; `clapp init` writes a copy to change")
