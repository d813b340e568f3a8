"""`clapp replay`: samplers and pruners on recorded curves, in seconds instead of hours."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clapp.system.console import plain_console, plain_table, print_json, status

SECONDS = 600.0


def replay(
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="Sampler, repeatable; `optuna` is TPE as Optuna comes. Default: all."),
    ] = None,
    pruner: Annotated[
        list[str] | None, typer.Option(help="Pruner, repeatable. Default: all.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each, from as many seeds.")] = 20,
    first_seed: Annotated[
        int,
        typer.Option(min=0, help="First of the seeds; check on others what was chosen on some."),
    ] = 0,
    seconds: Annotated[
        float, typer.Option(min=1, help="Simulated length of a search in seconds.")
    ] = SECONDS,
    workers: Annotated[int, typer.Option(min=1, help="Simulated workers.")] = 2,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that simulate; default: the cores.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Recorded curves; default: those that come with CLAPP.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write, with a plot of all of them.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")] = False,
) -> None:
    """Compare samplers and pruners on recorded learning curves of sobel_3."""
    from clapp.replay.compare import PLAIN, compare, pruner_names, sampler_names, summary
    from clapp.replay.table import DEFAULT
    from clapp.system.process import cores

    names = sampler or sampler_names(), pruner or pruner_names()
    tried = range(first_seed, first_seed + seeds)
    with status("reading the recorded curves"):
        found = compare(curves or DEFAULT, *names, tried, seconds, workers, processes or cores())
    rows = summary(found, seconds, [("random", "none"), (PLAIN, "none")])
    if out is not None:
        from clapp.replay.plot import write_plot

        write_plot(out, found, seconds)
    if json:
        print_json({"seconds": seconds, "workers": workers, "first_seed": first_seed, "rows": rows})
    else:
        _print(rows, seconds)


def _print(rows: list[dict[str, Any]], seconds: float) -> None:

    table = plain_table()
    for heading in ("sampler", "pruner", "hypervolume", "trials", "stopped", "of these lost"):
        table.add_column(heading, justify="left" if heading in ("sampler", "pruner") else "right")
    for peer in rows[0]["reached"]:
        table.add_column(f"as good as {peer}", justify="right")
    for row in sorted(rows, key=lambda row: -row["hypervolume"]):
        table.add_row(
            row["sampler"],
            row["pruner"],
            f"{row['hypervolume']:.2f} ± {row['interval']:.2f}",
            f"{row['trials']:.0f}",
            f"{row['stopped']:.0f}",
            f"{row['lost']:.1%}",
            *(f"{t:.0f} s" if t < seconds else "never" for t in row["reached"].values()),
        )
    console = plain_console()
    console.print(table)
    console.print(
        f"{rows[0]['seeds']} seeds, {seconds:g} simulated seconds each. `as good as`: median time "
        "until 99 % of the mean hypervolume that the other has at the end."
    )
