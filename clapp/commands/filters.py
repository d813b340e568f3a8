"""`clapp filters`: the classical filters, their parameters, and examples on photographs."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clapp.commands.options import AsJson
from clapp.commands.verbs import complete_filter
from clapp.errors import UserError
from clapp.system.console import plain_console, plain_table, print_json, status

if TYPE_CHECKING:
    from PIL import Image

    from clapp.filters.base import FilterSpec, Picture, Target

_SIDE = 224
_PHOTOS = 3
_QUALITY = 80


def filters(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="FILTER",
            help="A name, or as in a file: '{name: canny, low: 20}', '[a, b]'.",
            autocompletion=complete_filter,
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="With FILTER: draw what it does.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one HTML page of all filters.")
    ] = None,
    json: AsJson = False,
) -> None:
    """The classical filters: all of them, or one with its parameters and a picture."""
    if picture is not None and name is None:
        raise UserError("--picture: say which filter: clapp filters FILTER --picture OUT.png")
    if gallery is not None and name is not None:
        raise UserError(f"--gallery shows all filters; leave {name!r} out")
    with status("loading the filters"):
        from clapp.system.strict_yaml import parse_yaml

        spec = None if name is None else parse_yaml(name, "FILTER")
        documents = all_documents() if spec is None else [one_document(spec)]
    if gallery is not None:
        _write(gallery, gallery_page().encode())
    if picture is not None and spec is not None:
        _write(picture, _encoded(sheet(spec), picture))
    if json:
        print_json(documents if spec is None else documents[0])
    elif spec is None:
        _print_all(documents)
    else:
        _print_one(documents[0])


def all_documents() -> list[dict[str, Any]]:
    """The facts about each filter of the library, by name."""
    from clapp.filters.library import known_filters

    return [one_document(name) for name in known_filters()]


def one_document(spec: "FilterSpec") -> dict[str, Any]:
    """The facts about a filter.

    Raises:
        ConfigError: there is none of that name, or a parameter is not allowed.
    """
    from clapp.filters.library import as_entry, output_channels, resolve

    target, (entry, values) = resolve(spec), as_entry(spec)
    facts = target.facts
    return {
        "name": target.name,
        "summary": "" if entry is None else entry.summary,
        "source": facts.source,
        "channels_in": facts.channels_in,
        "channels_out": output_channels(spec),
        "border": facts.border,
        "reach": facts.reach,
        "flops": facts.flops,
        "space": facts.space,
        "parameters": {}
        if entry is None
        else {
            key: {"value": values[key], "default": one.default, "allowed": one.allowed}
            for key, one in entry.parameters.items()
        },
    }


def _reach(document: dict[str, Any]) -> str:
    return "picture" if document["reach"] is None else f"{document['reach']} px"


def _channels(document: dict[str, Any]) -> str:
    known = document["parameters"].get("channels")
    return known["allowed"].replace(", ", " or ") if known else str(document["channels_out"])


def _flops(document: dict[str, Any]) -> str:
    from clapp.front.objectives import scaled

    return "" if document["flops"] is None else scaled(document["flops"])


def _print_all(documents: list[dict[str, Any]]) -> None:
    table = plain_table()
    for heading in ("filter", "channels", "reach", "FLOPs"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for one in documents:
        table.add_row(one["name"], _channels(one), _reach(one), _flops(one), one["summary"])
    plain_console().print(table)


def _print_one(document: dict[str, Any]) -> None:
    from rich.table import Table

    console = plain_console()
    console.print(f"{document['name']}: {document['summary']}".rstrip(": "), markup=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for key, value in _facts(document):
        facts.add_row(key, value)
    console.print(facts)
    if not document["parameters"]:
        return
    table = plain_table()
    for heading in ("parameter", "value", "default", "allowed"):
        table.add_column(heading, overflow="fold")
    for key, one in document["parameters"].items():
        table.add_row(key, str(one["value"]), str(one["default"]), one["allowed"])
    console.print(table)


def _facts(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "computed by", document["source"]
    yield "channels", f"{document['channels_in']} in, {document['channels_out']} out"
    yield "border", document["border"]
    reach = document["reach"]
    whole = "the whole picture, or further than is known"
    yield "depends on", whole if reach is None else f"pixels up to {reach} away"
    yield "FLOPs", _flops(document) and f"{_flops(document)} at 224x224"
    yield "search space", document["space"]


def photographs() -> "list[Picture]":
    """Central squares of the first packaged validation photographs, uint8 (224, 224, 3)."""
    from itertools import islice

    from clapp.config import load_config
    from clapp.images import open_source
    from clapp.images.decode import centre_crop

    source = open_source(load_config().valid_data)
    return [centre_crop(one, _SIDE + 32, _SIDE) for one in islice(source.epoch(0), _PHOTOS)]


def sheet(spec: "FilterSpec") -> "Image.Image":
    """A sheet with photographs above the filter's results."""
    import numpy as np
    from PIL import Image

    from clapp.filters.library import apply_filter

    pictures = [np.ascontiguousarray(one) for one in photographs()]
    rows = [pictures, [_shown(apply_filter(spec, one)) for one in pictures]]
    return Image.fromarray(np.vstack([np.hstack(row) for row in rows]))


def _shown(target: "Target") -> "Picture":
    from clapp.filters.base import as_picture

    return as_picture(target)


def gallery_page() -> str:
    """The self-contained HTML page of all filters."""
    import numpy as np
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from clapp import __version__
    from clapp.filters.library import apply_filter

    pictures = [np.ascontiguousarray(one) for one in photographs()]
    shown = []
    for document in all_documents():
        name = document["name"]
        spec = {"name": name, "channels": 3} if "channels" in document["parameters"] else name
        uris = [_uri(_shown(apply_filter(spec, one))) for one in pictures[:2]]
        facts = [(key, value) for key, value in _facts(document) if value]
        shown.append({**document, "uris": uris, "facts": facts, "outputs": _channels(document)})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("filters.html")
    return template.render(
        filters=shown, inputs=[_uri(one) for one in pictures[:2]], version=__version__
    )


def _uri(picture: "Picture") -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def _encoded(image: "Image.Image", path: Path) -> bytes:
    """Encode a picture in the format of the suffix of `path`.

    Raises:
        UserError: the suffix belongs to no format.
    """
    from PIL import Image

    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise UserError(f"{path}: {path.suffix!r} is no format of pictures; such as .png")
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    from clapp.system.files import atomic_path

    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    typer.echo(str(path), err=True)
