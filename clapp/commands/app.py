"""The `clapp` command: one short function for each verb; the work is done in the package.

Heavy imports are inside the verbs, so that `clapp --help` does not load torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from clapp.commands.apply import evaluate, infer
from clapp.commands.data import data
from clapp.commands.experiments.verbs import ablate, repeat
from clapp.commands.filters import filters
from clapp.commands.options import (
    RESULTS,
    AsJson,
    Host,
    Results,
    Sets,
    Storage,
    StudyName,
)
from clapp.commands.publish import publish
from clapp.commands.serve import serve
from clapp.commands.setup.config import config
from clapp.commands.setup.doctor import doctor
from clapp.commands.setup.init import init
from clapp.commands.setup.spaces import spaces
from clapp.commands.verbs import Verbs, complete_filter, complete_started
from clapp.errors import UserError
from clapp.front.pick.rules import describe_rules
from clapp.replay.cli import replay
from clapp.system.console import log_to_stderr, print_json, run_app, status
from clapp.system.process import prepare_process

if TYPE_CHECKING:
    from clapp.commands.shrink import Step


def _add_benchmarks() -> None:
    """Add `clapp bench` where the benchmarks are: in a clone, not in an installed package."""
    try:
        from benchmarks.cli import bench
    except ImportError:
        anything = {"allow_extra_args": True, "ignore_unknown_options": True}

        @app.command("bench", context_settings=anything)
        def missing() -> None:
            """Measure CLAPP beside other ways of doing the same (needs a clone)."""
            raise UserError(
                "bench: the benchmarks are not part of the installed package; clone the project "
                "and run `python -m clapp bench` in its folder"
            )
    else:
        app.add_typer(bench, name="bench")


app = typer.Typer(
    cls=Verbs,
    help="Find, look at, export and run small networks that stand in for classical filters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_add_benchmarks()
app.command()(replay)
app.command()(filters)
for _verb in (init, doctor, spaces, config, infer, evaluate, serve, repeat, ablate, publish):
    app.command()(_verb)
app.add_typer(data, name="data")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    log_to_stderr()
    if version:
        from clapp import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def front(
    study: StudyName,
    test: Annotated[
        bool, typer.Option("--test", help="Measure the front on the test pictures, once.")
    ] = False,
    results: Results = RESULTS,
    storage: Storage = None,
    json: AsJson = False,
) -> None:
    """The Pareto front of a study, deduplicated; with --test how optimistic its losses are."""
    with status("reading the study"):
        from clapp.front.tables import front_document, print_front
        from clapp.report.tested import known_front, test_front
        from clapp.study.plan.existing import load_existing

        loaded = load_existing(study, results, storage)
        folder = results / loaded.study_name
        if test:
            prepare_process()
        found = test_front(loaded, folder) if test else known_front(loaded, folder)
    if json:
        print_json(front_document(loaded, found))
    else:
        print_front(loaded, found)


@app.command()
def studies(results: Results = RESULTS, storage: Storage = None, json: AsJson = False) -> None:
    """Every study: its trials, state, hypervolume, best pick and last activity."""
    with status("reading the studies"):
        from clapp.study.listing import overviews, print_overviews

        found = overviews(results, storage)
    for place, reason in found.left_out:
        typer.echo(f"left out: {place}: {reason}", err=True)
    if json:
        print_json(found.document())
    else:
        print_overviews(found)


@app.command()
def export(
    study: StudyName,
    pick: Annotated[str, typer.Option(metavar="RULE", help=describe_rules())] = "knee",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: RESULTS/STUDY/export/RULE.")
    ] = None,
    format_: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="FORMAT", help="Format beside ONNX; repeatable."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Size of every picture, batch 1; default: any."),
    ] = None,
    opset: Annotated[
        int | None, typer.Option(help="ONNX opset, 11 to 18; default: the lowest that serves.")
    ] = None,
    uint8: Annotated[
        bool, typer.Option("--uint8", help="The input is uint8; the scaling lies inside.")
    ] = False,
    target: Annotated[
        str | None, typer.Option(help="Refuse what does not run there, such as esp-dl; see docs.")
    ] = None,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="Train the model on for int8, for int8 formats.")
    ] = False,
    results: Results = RESULTS,
    storage: Storage = None,
    json: AsJson = False,
) -> None:
    """Export a model of the front: weights, configuration, ONNX, preview and card.

    STUDY may be a published model, STUDY:PARAMETERS; --pick then means nothing.
    """
    with status("loading PyTorch"):
        from clapp.export.folder import export_pick
        from clapp.export.options import Options, parse_size
        from clapp.models.published import published_name
        from clapp.report.published.export import export_published

        prepare_process()
        sides = None if size is None else parse_size(size)
        options = Options(tuple(format_ or ()), sides, opset, uint8, fine_tune, target)
        if published_name(study) is not None:
            result = export_published(study, results, out, options)
        else:
            result = export_pick(study, pick, results, storage, out, options)
    if json:
        print_json(result.document())
        return
    typer.echo(f"trial {result.trial}: {result.figures()}")
    for line in result.trust:
        typer.echo(line)
    typer.echo(f"{result.path}: {', '.join(result.files)}")


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Option(help="Configuration file; default: the packaged one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: train.output_dir.")
    ] = None,
    filter: Annotated[  # noqa: A002 - the option's name
        str | None,
        typer.Option(
            metavar="FILTER",
            help="The filter to learn, as `clapp filters` takes it.",
            autocompletion=complete_filter,
        ),
    ] = None,
    set_: Sets = None,
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="wandb|tensorboard", help="Follow it there; repeatable."),
    ] = None,
    trial: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="STUDY N|RULE",
            help="Repeat trial N of a study, or the one that a rule picks, and compare the losses.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the model that is in the folder.")
    ] = False,
    results: Results = RESULTS,
    storage: Storage = None,
    json: AsJson = False,
) -> None:
    """Train one configuration and write weights, configuration, curve and preview."""
    if trial is not None:
        _repeat(trial, bool(config or set_ or filter), results, storage, out, overwrite, json)
        return
    with status("loading PyTorch"):
        from clapp.commands.train import train_to_folder
        from clapp.config import load_config, refuse_repetitions
        from clapp.filters.custom import look_in
        from clapp.front.objectives import amount

        if config is not None:
            look_in(config.parent)
        sets = [*([f"train_data.target_filter={filter}"] if filter else []), *(set_ or ())]
        loaded = load_config(config, sets)
        refuse_repetitions(loaded)
        prepare_process()
        folder = out or Path(loaded.train.output_dir)
        document = train_to_folder(loaded, folder, log or (), overwrite=overwrite)
    if json:
        print_json(document)
    else:
        typer.echo(
            f"{document['path']}: {amount('loss', document['loss'])} after "
            f"{document['iterations']} iterations and {document['seconds']:.1f} s "
            f"({document['stop_reason']})"
            + (f"; over {document['measured_on']}" if document["measured_on"] else "")
        )


@app.command()
def shrink(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="Export or trial folder, or published STUDY:PARAMETERS."
        ),
    ],
    loss_at_most: Annotated[
        float | None,
        typer.Option(
            metavar="L2", min=0, help="Validation L2 allowed; default: 5 % above the model's own."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: MODEL with -shrunk added.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Make one model as small as it can be at a given loss, and show the steps taken."""
    with status("loading PyTorch"):
        from clapp.commands.shrink import shrink_folder

        prepare_process()
    document = shrink_folder(model, loss_at_most, out, None if json else _say_step)
    if json:
        print_json(document)
    else:
        typer.echo(f"{document['path']}: {len(document['steps']) - 1} changes")


def _say_step(step: "Step") -> None:
    from clapp.front.objectives import loss_text

    typer.echo(f"{step.params:>6,} parameters  loss {loss_text(step.loss)}  {step.change}")


def _repeat(
    trial: tuple[str, str],
    configured: bool,
    results: Path,
    storage: str | None,
    out: Path | None,
    overwrite: bool,
    json: bool,
) -> None:
    from clapp.commands.repeat import repeat

    if configured:
        raise UserError("--trial repeats a trial as it was: without --config and --set")
    with status("training the trial again"):
        repetition = repeat(*trial, results, storage, out, overwrite)
    if json:
        print_json(repetition.document())
    else:
        typer.echo(repetition.describe())


@app.command()
def report(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...",
            help="Names of studies, or their results folders.",
            autocompletion=complete_started,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; default: report.html in the study's results."),
    ] = None,
    results: Results = RESULTS,
    storage: Storage = None,
    json: AsJson = False,
) -> None:
    """One self-contained HTML page about a study, or several side by side."""
    from clapp.report.page import write_report

    prepare_process()
    written = write_report(studies, results, storage, out)
    if json:
        print_json(written.document())
    else:
        typer.echo(f"{written.path}: {written.bytes / 1e6:.1f} MB in {written.seconds:.1f} s")


@app.command()
def dashboard(
    study: StudyName,
    results: Results = RESULTS,
    storage: Storage = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8080,
    host: Host = "127.0.0.1",
    artifacts: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the pictures are, as given to optimize.py."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """optuna-dashboard on this machine, with the pictures of every trial."""
    from clapp.study.dashboard.server import serve as serve_dashboard

    serve_dashboard(study, results, storage, port, host, artifacts, open_)


@app.command()
def serve_storage(
    storage: Annotated[
        str, typer.Option(metavar="URL", help="The database, such as postgresql+psycopg://...")
    ],
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 13000,
    threads: Annotated[
        int, typer.Option(min=1, help="Requests at once, each with a database connection.")
    ] = 10,
) -> None:
    """One process in front of a database: workers then use --storage grpc://HOST:PORT."""
    from clapp.study.storage.proxy import serve as serve_proxy

    serve_proxy(storage, host, port, threads)


def main(**_: Any) -> NoReturn:
    """Entry point of the `clapp` command."""
    run_app(app)
