"""`clapp data check`: what is trained, validated and tested on, and what any two share."""

import hashlib
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from clapp.commands.options import AsJson, Sets
from clapp.errors import UserError
from clapp.system.console import print_json, status

if TYPE_CHECKING:
    from clapp.config import Config, DataConfig

data = typer.Typer(help="The pictures of a configuration or study.", no_args_is_help=True)
SECTIONS = ("train_data", "valid_data", "test_data")
MOST = 10_000
"""The most pictures of a source that are compared by content, since some sources are endless."""


class Same(NamedTuple):
    """Picture `mine` of the section `other` shows the same as picture `theirs` of `one`."""

    one: str
    other: str
    mine: int
    theirs: int


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
    set_: Sets = None,
    content: Annotated[
        bool, typer.Option("--content", help="Compare what the pictures show; decodes them all.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Open all three sources and look for pictures in two: by name, path and slice, or content."""
    if study is not None and config is not None:
        raise UserError("--config: give a study or a configuration, not both")
    with status("opening the pictures"):
        loaded = _configuration(study, config, set_ or [])  # raises if the sources overlap by name
        document = describe(loaded)
        if content:
            document["same"] = [pair._asdict() for pair in same_content(loaded)]
    if json:
        print_json(document)
    else:
        for section in SECTIONS:
            typer.echo(f"{section}: {document[section]}")
        typer.echo("by name, path and slice they share no picture")
    if content:
        _tell([Same(**pair) for pair in document["same"]], json)


def _tell(same: "list[Same]", json: bool) -> None:
    if same:
        one, other = same[0].one, same[0].other
        of_both = [pair for pair in same if (pair.one, pair.other) == (one, other)]
        first = ", ".join(f"{pair.mine} is {pair.theirs}" for pair in of_both[:5])
        raise UserError(
            f"{other} and {one} share {len(of_both)} pictures of the same content; "
            f"picture {first} of {one}, counted from 0"
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
    """The sources in words.

    Raises:
        UserError: one of them cannot be opened.
    """
    from clapp.images import open_source

    return {name: open_source(_section(config, name)).describe() for name in SECTIONS}


def _section(config: "Config", name: str) -> "DataConfig":
    section: DataConfig = config.test_set if name == "test_data" else getattr(config, name)
    return section


def same_content(config: "Config") -> list[Same]:
    """Pairs of pictures with equal pixels in two of the sets, by their place in epoch 0."""
    sets = {name: _hashes(config, name) for name in SECTIONS}
    found = []
    for one, other in combinations(SECTIONS, 2):
        first: dict[str, int] = {}
        for number, pixels in enumerate(sets[one]):
            first.setdefault(pixels, number)
        found += [
            Same(one, other, number, first[pixels])
            for number, pixels in enumerate(sets[other])
            if pixels in first
        ]
    return found


def _hashes(config: "Config", name: str) -> list[str]:
    from clapp.images import open_source

    section = _section(config, name)
    most = MOST if name == "train_data" else min(MOST, getattr(section, "num_images", MOST))
    pictures = islice(open_source(section).epoch(0), most)
    return [hashlib.sha256(repr(p.shape).encode() + p.tobytes()).hexdigest() for p in pictures]
