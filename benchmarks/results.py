"""Every study searched as shipped, then published: `make results`.

A study that is published by the same command already is left alone, and an interrupted search goes
on, so the same call continues after an interruption.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from clapp.commands.options import RESULTS
from clapp.errors import UserError, one_line
from clapp.models.published import REFERENCE
from clapp.system.console import run_app

ROOT = Path(__file__).parents[1]
CHECKS = ("smoke",)
"""Studies that check an installation; nobody wants their models."""
app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def results(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY...", help="Default: all packaged ones.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time for each; default: its own.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; default: that of each study.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; default: the cores.")
    ] = None,
    folder: Annotated[Path, typer.Option("--results", help="Folder of results.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="Folder of published results.")] = Path(REFERENCE),
) -> None:
    """Search every study, then publish it."""
    from clapp.system.files import data_dir

    paths = data_dir("studies").glob("*.yaml")
    names = studies or sorted(path.stem for path in paths if path.stem not in CHECKS)
    given = {"--timeout": timeout, "--seed": seed, "--workers": workers}
    options = [w for name, value in given.items() if value is not None for w in (name, str(value))]
    failed = []
    for number, name in enumerate(names, start=1):
        typer.echo(f"{number} of {len(names)}: {name}")
        if is_current(out / name, name, timeout, seed, workers):
            typer.echo(f"{name}: published by the same command already")
            continue
        code = search([*options, "--study", name, "--results", str(folder)])
        if code == 130:  # interrupted; the same call continues
            raise typer.Exit(code)
        if code or not published(name, folder, out):
            failed.append(name)
    if failed:
        raise UserError(f"not published: {', '.join(failed)}; see above")


def is_current(
    place: Path, name: str, timeout: str | None, seed: int | None, workers: int | None
) -> bool:
    """Whether the folder `place` was published by the command that these options make.

    Without `workers`, their number does not matter.
    """
    from clapp.report.published.origin import command_of
    from clapp.report.published.publish import ORIGIN

    try:
        known = json.loads((place / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    definition = planned(name, timeout, seed)
    same: bool = known["command"] == command_of(name, definition, workers or known["workers"])
    return same


def planned(name: str, timeout: str | None, seed: int | None) -> dict[str, object]:
    """The definition of a study with these options, as a storage returns it."""
    from clapp.config import Layer
    from clapp.study.plan.plan import make_plan

    layers = []
    if timeout is not None:
        layers.append(Layer(f"--timeout {timeout}", {"budget": {"timeout": timeout}}))
    if seed is not None:
        layers.append(Layer(f"--seed {seed}", {"seed": seed}))
    definition: dict[str, object] = json.loads(json.dumps(make_plan(name, (), layers).definition()))
    return definition


def search(words: Sequence[str], output: int | None = None) -> int:
    """Run `optimize.py` to its end, and return its exit code; it ends by itself after Ctrl-C.

    Args:
        output: file descriptor that its stdout goes to; None: that of this process.
    """
    command = [sys.executable, str(ROOT / "optimize.py"), *words]
    with subprocess.Popen(command, stdout=output) as process:
        while True:
            with suppress(KeyboardInterrupt):  # it got the signal too, and saves what it has
                return process.wait()


def published(name: str, folder: Path, out: Path) -> bool:
    """Publish a study; False: that cannot be done, and the reason was printed."""
    from clapp.report.published.publish import publish
    from clapp.system.process import prepare_process

    prepare_process()
    try:
        found = publish(name, folder, out=out)
    except UserError as error:
        typer.echo(f"{name}: {one_line(error)}", err=True)
        return False
    typer.echo(found.words())
    return True


if __name__ == "__main__":
    run_app(app)
