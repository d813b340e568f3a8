"""`clapp publish`: finished studies as small folders, whose models load by name."""

from pathlib import Path
from typing import Annotated

import typer

from clapp.commands.options import RESULTS, AsJson, Results, Storage
from clapp.commands.verbs import complete_started
from clapp.system.console import print_json, status


def publish(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...", help="Finished studies.", autocompletion=complete_started
        ),
    ],
    results: Results = RESULTS,
    storage: Storage = None,
    out: Annotated[Path, typer.Option(help="Folder to write: a folder for each study.")] = Path(
        "results/reference"
    ),
    json: AsJson = False,
) -> None:
    """Publish finished studies: front, test losses, models that load by name, origin."""
    with status("loading PyTorch"):
        from clapp.report.published.publish import publish as publish_study
        from clapp.system.process import prepare_process

        prepare_process()
    found = []
    for name in studies:
        with status(f"publishing {name}"):
            found.append(publish_study(name, results, storage, out))
        if not json:
            typer.echo(found[-1].words())
    if json:
        print_json({"studies": [one.document() for one in found]})
