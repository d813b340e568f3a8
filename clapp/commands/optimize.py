"""The command line of `optimize.py`: runs studies and nothing else."""

import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from clapp.commands.verbs import complete_filter, complete_study
from clapp.system.console import log_to_stderr, run_app, status

app = typer.Typer(pretty_exceptions_enable=False)


def _print_version(asked: bool) -> None:
    if asked:
        from clapp import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def optimize(
    study: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH",
            help="A study by name, or a study file.",
            autocompletion=complete_study,
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", help="Trained trials in all, over every run of the study."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time in all, over every run: 90s, 30m, 1h30m."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Worker processes; default: the cores.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, mps.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Storage of the trials; default: RESULTS/STUDY/study.journal."
        ),
    ] = None,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Folder of results.")] = Path(
        "results"
    ),
    artifacts: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where pictures go: a folder or s3://bucket/prefix; default: in the results.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the study.")] = None,
    filter: Annotated[  # noqa: A002 - the option's name
        str | None,
        typer.Option(
            metavar="FILTER",
            help="The filter to learn, as `clapp filters` takes it.",
            autocompletion=complete_filter,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable."),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="wandb|tensorboard", help="Follow every trial there; repeatable."),
    ] = None,
    accept_filter_change: Annotated[
        bool,
        typer.Option(
            "--accept-filter-change", help="Go on although the code of a filter function changed."
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew; the old study is kept under another name.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="With --fresh: also while other machines train; their trials fail."
        ),
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Search for small networks that stand in for a filter; run again to go on.

    Interrupting is safe: whatever is trained is saved, and the same command goes on from there.
    """
    log_to_stderr()
    if force and not fresh:
        raise typer.BadParameter("only with --fresh", param_hint="--force")
    with status("reading the study"):
        from clapp.config import Layer
        from clapp.study.plan.plan import make_plan
        from clapp.study.running.driver import Options, run_study

        overrides = [
            Layer(f"--{name} {value}", layer)
            for name, value, layer in (
                ("trials", trials, {"budget": {"trials": trials}}),
                ("timeout", timeout, {"budget": {"timeout": timeout}}),
                ("seed", seed, {"seed": seed}),
            )
            if value is not None
        ]
        sets = [*([f"train_data.target_filter={filter}"] if filter else []), *(set_ or ())]
        plan = make_plan(study, sets, overrides)
        if device is not None:
            plan.config({}, seed=0, device=device)  # refuses an unknown device now
    options = Options(
        results,
        storage,
        workers,
        device,
        artifacts,
        fresh,
        accept_filter_change=accept_filter_change,
        force=force,
        log=tuple(log or ()),
    )
    code = run_study(plan, options)
    raise typer.Exit(code)


def main() -> NoReturn:
    """Entry point of `optimize.py` and of the `clapp-optimize` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C from the start
    run_app(app)


if __name__ == "__main__":
    main()
