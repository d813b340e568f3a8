"""`clapp infer` and `clapp evaluate`: a model on pictures, and beside the classical filter."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clapp.commands.options import AsJson
from clapp.commands.verbs import complete_filter
from clapp.errors import UserError
from clapp.system.console import print_json, status
from clapp.system.process import cores, prepare_process

if TYPE_CHECKING:
    from clapp.inference.evaluate import Comparison

SOME_LEFT_OUT = 3
"""The exit code where files were left out, and the rest was done."""
_WHAT = "Export folder, trial folder, .onnx file, or published STUDY:PARAMETERS"
Memory = Annotated[
    str, typer.Option(metavar="SIZE", help="What larger pictures are cut into tiles for.")
]
Values = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=NUMBER", help="A setting of the model, such as sigma=1.2."),
]


def infer(
    model: Annotated[Path, typer.Argument(help=f"{_WHAT}.")],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT",
            help="Pictures, videos, folders or patterns to filter, then the file to write, or a "
            "folder for several. - is standard input or output.",
        ),
    ],
    memory: Memory = "256MB",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Tiles computed at once; default: the cores.")
    ] = None,
    bits: Annotated[int, typer.Option(help="Of a sample of the result: 8 or 16.")] = 8,
    format_: Annotated[
        str,
        typer.Option("--format", metavar="SUFFIX", help="Of pictures in a folder, and of -."),
    ] = "png",
    set_: Values = None,
) -> None:
    """Apply a model to pictures or videos of any size, within a memory budget.

    Files that cannot be filtered are left out; the exit code is then 3.
    """
    if len(paths) < 2:
        raise UserError(f"{' '.join(paths)}: IN and OUT are expected after MODEL")
    if bits not in (8, 16):
        raise UserError(f"--bits {bits}: 8 or 16 is expected")
    *inputs, out = paths
    with status("loading the model"):
        from clapp.inference.adjusted import parse_values
        from clapp.inference.files import STREAM, allow_any_size, filter_files
        from clapp.inference.picture import FileFilter
        from clapp.inference.runner import open_runner
        from clapp.system.sizes import parse_size

        limit = parse_size(memory, "--memory")
        runner = open_runner(model, parse_values(set_ or ()))
        if model.suffix.lower() != ".onnx":  # which needs no torch
            prepare_process(threads=1)  # tiles are what is computed at once
        allow_any_size()
        apply = FileFilter(runner, limit, threads or cores(), bits)
        outcome = filter_files(apply, inputs, out, f".{format_.removeprefix('.')}")
    if out != STREAM:
        left_out = f", {outcome.skipped.count} left out" if outcome.skipped.count else ""
        several = outcome.done + outcome.skipped.count > 1
        typer.echo(f"{out}: {outcome.done} files{left_out}" if several else out)
    if outcome.skipped.count:
        raise typer.Exit(SOME_LEFT_OUT)


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help=f"{_WHAT}; several are compared. The pictures may follow instead of --data.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PICTURES",
            help="Picture, folder, pattern, or a source with its split; default: "
            "photos:validation.",
        ),
    ] = None,
    filter: Annotated[  # noqa: A002 - the option's name
        str | None,
        typer.Option(
            help="Classical filter; default: the one the models learned.",
            autocompletion=complete_filter,
        ),
    ] = None,
    resize: Annotated[int, typer.Option(min=1, help="Shorter side in pixels.")] = 256,
    crop: Annotated[int, typer.Option(min=1, help="Side of the central crop in pixels.")] = 224,
    native: Annotated[
        bool, typer.Option("--native", help="Whole pictures, as large as they are.")
    ] = False,
    pictures: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Pictures at most.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write figures of each picture (CSV), means (JSON), the worst (PNG), a page.",
        ),
    ] = None,
    memory: Memory = "256MB",
    set_: Values = None,
    json: AsJson = False,
) -> None:
    """Compare models with the classical filter: L2, L1, PSNR, SSIM, and F1 of edges."""
    with status("loading the models"):
        from clapp.inference.adjusted import parse_values
        from clapp.inference.comparing.tables import write_comparison
        from clapp.inference.evaluate import Size, compare
        from clapp.system.strict_yaml import parse_yaml

        prepare_process()
        names, chosen = _models_and_data(models, data)
        spec = None if filter is None else parse_yaml(filter, "--filter")
        size = Size(resize, crop, native)
        at = parse_values(set_ or ())
        found = compare(names, chosen, spec, size, most=pictures, memory=memory, values=at)
        written = write_comparison(out, found) if out is not None else []
    if json:
        document = found.document() if len(found.models) > 1 else found.of(0).document()
        print_json(document | ({"set": at} if at else {}))
    else:
        _print(found)
        for name, value in at.items():
            typer.echo(f"at {name}={value:g}")
        for path in written:
            typer.echo(str(path))


def _models_and_data(words: list[str], data: str | None) -> tuple[list[str], str]:
    """The models, and the pictures: those of --data, or else the last word unless it is a model."""
    from clapp.models.published import published_name
    from clapp.training.folder import is_model_folder

    last = words[-1]
    model = last.lower().endswith(".onnx") or is_model_folder(Path(last))
    model = model or published_name(last) is not None
    if data is None and len(words) > 1 and not model:
        return words[:-1], last
    return words, data or "photos:validation"


def _print(found: "Comparison") -> None:
    from clapp.front.objectives import loss_text
    from clapp.inference.comparing.tables import differences

    several = len(found.models) > 1
    for number, name in enumerate(found.models):
        result = found.of(number)
        between = (
            "  ({:.3g} to {:.3g})".format(*bounds) if (bounds := result.intervals.get("l2")) else ""
        )
        typer.echo(
            f"{f'{name}: ' * several}loss {loss_text(result.l2)}{between}  L1 {result.l1:.5f}  "
            f"mean PSNR {result.psnr:.2f} dB  SSIM {result.ssim:.4f}  over {result.images} pictures"
        )
        if result.edges is not None:
            typer.echo(
                f"edges within one pixel: F1 {result.edges.f1:.4f}  precision "
                f"{result.edges.precision:.4f}  recall {result.edges.recall:.4f}"
            )
    for line in differences(found):
        typer.echo(line)
