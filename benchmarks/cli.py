"""`clapp bench`: what CLAPP does, measured beside other ways of doing it.

Heavy imports stand inside the verbs, so that `clapp --help` answers without torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clapp.commands.options import RESULTS, AsJson, Sets
from clapp.system.console import print_json

if TYPE_CHECKING:
    from benchmarks.measure import Result

bench = typer.Typer(
    help="Measure CLAPP beside other ways of doing the same, on this machine.",
    no_args_is_help=True,
)

Repeats = Annotated[int, typer.Option(min=1, help="Rounds; the medians are shown.")]


Buffer = Annotated[
    int,
    typer.Option(
        "--reference-buffer",
        min=1,
        help="Pairs in each buffer of the training of 2022; with 8000, its own, some 10 GB.",
    ),
]


def _show(result: "Result", json: bool) -> None:
    if json:
        print_json(result.document())
    else:
        result.print()


@bench.command()
def trainer(
    reference_steps: Annotated[
        int, typer.Option(min=0, help="Steps of the training of 2022 to time; 0: to the threshold.")
    ] = 20,
    reference_needs: Annotated[
        int, typer.Option(min=1, help="Steps to which its seconds are extrapolated.")
    ] = 415,
    reference_repeats: Annotated[int, typer.Option(min=1, help="Its rounds.")] = 1,
    reference_buffer: Buffer = 8000,
    plateau: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="No threshold: N steps of ours, and how close."),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Validation L2 to reach.")] = 0.005,
    set_: Sets = None,
    repeats: Repeats = 3,
    json: AsJson = False,
) -> None:
    """Seconds and memory of one training to a loss, beside the way of 2022."""
    from benchmarks.reference import with_buffer
    from benchmarks.trainer import run

    _show(
        run(
            repeats=repeats,
            reference_steps=reference_steps,
            reference_needs=reference_needs,
            reference_repeats=reference_repeats,
            threshold=threshold,
            plateau=plateau,
            sets=set_ or (),
            settings=with_buffer(reference_buffer),
        ),
        json,
    )


@bench.command()
def optimisers(
    seeds: Annotated[
        int, typer.Option(min=0, help="First weights of the form with 59 parameters.")
    ] = 10,
    networks: Annotated[
        int, typer.Option(min=0, help="Random networks that `auto` gives to Levenberg-Marquardt.")
    ] = 40,
    larger: Annotated[int, typer.Option(min=0, help="Those that it gives to Adam.")] = 10,
    iterations: Annotated[int, typer.Option(min=40, help="Length of Adam's cycle.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The first of all seeds.")] = 0,
    json: AsJson = False,
) -> None:
    """Levenberg-Marquardt beside Adam: seconds to a loss, loss after equal seconds."""
    from benchmarks.optimisers import run

    _show(run(seeds, networks, larger, iterations, seed), json)


@bench.command()
def study(
    name: Annotated[
        str, typer.Option("--study", metavar="NAME|PATH", help="The study.")
    ] = "sobel3",
    trials: Annotated[int, typer.Option(min=1, help="Trials of each variant.")] = 30,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Time limit of each variant.")
    ] = None,
    reference_trials: Annotated[
        int, typer.Option(min=0, help="Configurations to time in the training of 2022.")
    ] = 2,
    reference_steps: Annotated[int, typer.Option(min=1, help="Steps of each of them.")] = 5,
    reference_buffer: Buffer = 8000,
    search: Annotated[
        bool, typer.Option("--search", help="Each variant draws its own configurations.")
    ] = False,
    target: Annotated[
        float | None, typer.Option(help="Hypervolume to reach; default: 90 % of the least.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first round.")] = 0,
    set_: Sets = None,
    repeats: Repeats = 1,
    json: AsJson = False,
) -> None:
    """Trials an hour and seconds to a hypervolume, beside plain loops around Optuna."""
    from benchmarks.reference import with_buffer
    from benchmarks.study import run

    _show(
        run(
            study=name,
            trials=trials,
            seconds=seconds,
            reference_trials=reference_trials,
            reference_steps=reference_steps,
            search=search,
            target=target,
            seed=seed,
            sets=set_ or (),
            settings=with_buffer(reference_buffer),
            repeats=repeats,
        ),
        json,
    )


@bench.command()
def samplers(
    name: Annotated[
        str, typer.Option("--study", metavar="NAME|PATH", help="The study.")
    ] = "sobel3",
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="Repeatable, the first beside the others; default: evolution, tpe, gp, random."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Searches by each sampler.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the first of them.")] = 0,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="Time of each search.")] = "5m",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    folder: Annotated[
        Path, typer.Option("--results", help="Folder of the studies; they go on from there.")
    ] = RESULTS / "samplers",
    json: AsJson = False,
) -> None:
    """Hypervolume over time of one study by several samplers, in real trainings."""
    from benchmarks.samplers import run

    names = sampler or ["evolution", "tpe", "gp", "random"]
    _show(run(name, names, seeds, seed, timeout, workers, folder), json)


@bench.command()
def pool(
    pictures: Annotated[int, typer.Option(min=1, help="JPEG files to read from.")] = 200,
    batches: Annotated[int, typer.Option(min=1, help="Batches for each consumer.")] = 1000,
    consumers: Annotated[
        list[int] | None, typer.Option(min=1, help="Processes that read; default: 1 and 4.")
    ] = None,
    repeats: Repeats = 3,
    json: AsJson = False,
) -> None:
    """Filtered crops a second from JPEG files, beside decoding them anew for every crop."""
    from benchmarks.pool import run

    _show(run(pictures, batches, consumers or [1, 4], repeats), json)


@bench.command()
def infer(
    sizes: Annotated[
        list[int] | None, typer.Option(min=16, help="Side in pixels; default: 224, 1024, 4096.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Export or trial folder; default: 59 parameters for sobel_3, untrained."),
    ] = None,
    large: Annotated[
        int | None,
        typer.Option(
            metavar="SIDE", min=1024, help="Instead: one file of SIDE x SIDE pixels, by tiles."
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option(help="With --large: beside the picture as a whole.")
    ] = True,
    repeats: Repeats = 3,
    json: AsJson = False,
) -> None:
    """Milliseconds a picture on one thread: PyTorch, ONNX Runtime and the classical filter."""
    if large is not None:
        from benchmarks import large as large_pictures

        networks = list(large_pictures.NETWORKS)
        _show(large_pictures.run(large, networks, repeats, whole=whole), json)
        return
    from benchmarks.infer import run

    _show(run(sizes=sizes or [224, 1024, 4096], model=model, repeats=repeats), json)


@bench.command()
def serve(
    requests: Annotated[int, typer.Option(min=100, help="Good requests.")] = 10_000,
    clients: Annotated[int, typer.Option(min=1, max=32, help="Clients at once.")] = 4,
    size: Annotated[int, typer.Option(min=16, help="Side of the picture in pixels.")] = 224,
    model: Annotated[
        Path | None, typer.Option(help="Model to serve; default: 59 parameters, untrained.")
    ] = None,
    json: AsJson = False,
) -> None:
    """A server on loopback: p50, p99, requests a second, memory; then bad requests."""
    from benchmarks.serve import run

    _show(run(requests, clients, size, model), json)


@bench.command()
def layer(
    steps: Annotated[int, typer.Option(min=1, help="Steps of every training.")] = 400,
    json: AsJson = False,
) -> None:
    """A loss on edges in a training loop: a small model beside kornia's Sobel and Canny."""
    from benchmarks.layer import run

    _show(run(steps), json)


@bench.command()
def driver(
    trials: Annotated[
        list[int] | None, typer.Option(min=1, help="Trials of a study; default: 100 and 1000.")
    ] = None,
    repeats: Repeats = 1,
    json: AsJson = False,
) -> None:
    """Milliseconds a trial costs beside its training: asking, storing, keeping."""
    from benchmarks.driver import run

    _show(run(trials=trials or [100, 1000], repeats=repeats), json)


@bench.command()
def scale(
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Storage without this study; default: a journal."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 32,
    trials: Annotated[int, typer.Option(min=10, help="Trials of the study.")] = 10000,
    sampler: Annotated[str, typer.Option(help="Sampler of the study.")] = "tpe",
    json: AsJson = False,
) -> None:
    """Many workers on one storage: processor time and database work a trial, by tenths."""
    from benchmarks.scale import run

    _show(run(storage, workers, trials, sampler), json)
