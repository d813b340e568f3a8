"""Options that several verbs share, each written once."""

from pathlib import Path
from typing import Annotated

import typer

from clapp.commands.verbs import complete_started

RESULTS = Path("results")
StudyName = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="Name of the study.", autocompletion=complete_started),
]
Results = Annotated[Path, typer.Option(help="Folder of results.")]
Storage = Annotated[
    str | None,
    typer.Option(help="Storage URL; default: RESULTS/STUDY/study.journal.", metavar="URL"),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key.")
]
Host = Annotated[
    str, typer.Option(help="Address to bind. There is no authentication: keep it private.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]
