"""`clapp data check`: the training and validation pictures, and whether both share any."""

import hashlib
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clapp.errors import UserError
from clapp.system.console import print_json, status

if TYPE_CHECKING:
    from clapp.config import Config, DataConfig

data = typer.Typer(help="The pictures of a configuration or study.", no_args_is_help=True)
MOST = 10_000
"""The most pictures of a source that are compared by content, since some sources are endless."""


@data.callback()
def _group() -> None:
    """The pictures of a configuration or study."""


@data.command()
def check(
    study: Annotated[
        str | None, typer.Argument(metavar="STUDY", help="A study, by name or file.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A configuration file; default: the packaged one.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key.")
    ] = None,
    content: Annotated[
        bool, typer.Option("--content", help="Compare what the pictures show; decodes them all.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")] = False,
) -> None:
    """Open both sources and look for pictures in both: by name, path and slice, or by content."""
    if study is not None and config is not None:
        raise UserError("--config: give a study or a configuration, not both")
    with status("opening the pictures"):
        loaded = _configuration(study, config, set_ or [])  # raises if the sources overlap by name
        document = describe(loaded)
        if content:
            document["same"] = same_content(loaded)
    if json:
        print_json(document)
    else:
        for section in ("train_data", "valid_data"):
            typer.echo(f"{section}: {document[section]}")
        typer.echo("by name, path and slice they share no picture")
    if content:
        _tell(document["same"], json)


def _tell(same: list[tuple[int, int]], json: bool) -> None:
    if same:
        first = ", ".join(f"{mine} is {theirs}" for mine, theirs in same[:5])
        raise UserError(
            f"valid_data and train_data share {len(same)} pictures of the same content; "
            f"validation picture {first} of training, counted from 0"
        )
    if not json:
        typer.echo("by content they share none either")


def _configuration(study: str | None, config: Path | None, sets: list[str]) -> "Config":
    from clapp.config import load_config
    from clapp.filters.custom import look_in
    from clapp.study.plan.plan import make_plan

    if study is not None:
        return make_plan(study, sets).config({}, seed=0, device=None)
    if config is not None:
        look_in(config.parent)
    return load_config(config, sets)


def describe(config: "Config") -> dict[str, Any]:
    """Descriptions of both sources.

    Raises:
        UserError: one of them cannot be opened.
    """
    from clapp.images import open_source

    return {
        "train_data": open_source(config.train_data).describe(),
        "valid_data": open_source(config.valid_data).describe(),
    }


def same_content(config: "Config") -> list[tuple[int, int]]:
    """Pairs of validation and training pictures with equal pixels, by their place in epoch 0."""
    training: dict[str, int] = {}
    for number, found in enumerate(_hashes(config.train_data, MOST)):
        training.setdefault(found, number)
    valid = _hashes(config.valid_data, config.valid_data.num_images)
    return [(n, training[found]) for n, found in enumerate(valid) if found in training]


def _hashes(section: "DataConfig", most: int) -> list[str]:
    from clapp.images import open_source

    pictures = islice(open_source(section).epoch(0), most)
    return [hashlib.sha256(repr(p.shape).encode() + p.tobytes()).hexdigest() for p in pictures]
