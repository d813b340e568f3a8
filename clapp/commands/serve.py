"""`clapp serve`: models behind HTTP."""

from typing import Annotated

import typer

from clapp.commands.options import Host
from clapp.errors import UserError
from clapp.system.console import status


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Export folder, trial folder, .onnx file, or published STUDY:PARAMETERS; "
            "NAME=PATH gives it another name.",
        ),
    ],
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8000,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Pictures computed at once; default: one a core.")
    ] = None,
    queue: Annotated[
        int, typer.Option(min=0, help="Pictures that wait; one more is refused with 429.")
    ] = 16,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="For a picture; what needs more is cut into tiles.")
    ] = "256MB",
    body: Annotated[str, typer.Option(metavar="SIZE", help="Most bytes of a request.")] = "20MB",
    pixels: Annotated[int, typer.Option(min=1, help="Most pixels of a picture.")] = 16_000_000,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="Most seconds for an answer, waiting included.")
    ] = 30.0,
    transfer: Annotated[
        float, typer.Option(min=0.1, help="Most seconds for a request or an answer to travel.")
    ] = 30.0,
) -> None:
    """Models behind HTTP: a picture in, a picture out; a page compares them with the filter."""
    with status("loading the models"):
        try:
            from clapp.inference.serve.limits import limits
            from clapp.inference.serve.server import serve as serve_models
        except ImportError as error:
            raise UserError(
                f"clapp serve: needs {error.name}: pip install 'clapp[serve]'"
            ) from error
        allowed = limits(
            workers=workers,
            queue=queue,
            memory=memory,
            body=body,
            pixels=pixels,
            seconds=seconds,
            transfer=transfer,
        )
    serve_models(models, host, port, allowed)
