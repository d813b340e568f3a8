"""Pack the recorder's parts into the one file that `clapp replay` reads.

python -m clapp.replay.pack --parts curves --out sobel3.parquet
"""

from pathlib import Path
from typing import Annotated

import typer

from clapp.pool.validation import constant_l2
from clapp.replay.record import rows
from clapp.replay.table import write
from clapp.system.console import log_to_stderr, run_app

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def pack(
    parts: Annotated[Path, typer.Option(help="Folder of the recordings.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    study: Annotated[str, typer.Option(help="Study whose space was recorded.")] = "sobel3",
) -> None:
    """Write all complete rows of a folder of recordings to one Parquet file."""
    from clapp.study.plan.plan import make_plan

    log_to_stderr()
    plan = make_plan(study)
    config = plan.config({}, seed=0, device="cpu")
    mean = constant_l2(config.valid_data, config.target_filter, config.parameter)
    number = write(rows(parts), plan.document(), mean, out)
    typer.echo(f"{out}: {number:,} curves, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_app(app)
