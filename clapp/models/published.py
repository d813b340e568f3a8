"""Published models: found by the name of their study and their number of parameters.

`results/reference/STUDY` of the package holds the published results of a study, and its models in
`models/NAME`. A name is the number of parameters. Of several models of one size the most accurate
has this name; the next ones, with fewer FLOPs, have `-2`, `-3`, ... added.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from clapp.errors import UserError
from clapp.system.files import data_dir
from clapp.system.suggest import hint

REFERENCE = "results/reference"
"""Folder of published results, of a user and of the package."""
MODELS, FRONT = "models", "front.json"
_PUBLISHED = re.compile(r"([A-Za-z0-9][\w.-]{0,99}):([\w-]{0,99})", re.ASCII)
_MODEL = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)


def model_folder(path: str | Path) -> Path:
    """The folder of a published model such as `sobel3:23`; any other path as it is.

    Raises:
        UserError: no such study or model is published; the message lists those that are.
    """
    name = published_name(path)
    if name is None:
        return Path(path)
    study, model = name
    known = published_studies()
    if study not in known:
        named = f"known: {', '.join(known)}" if known else "none is"
        raise UserError(
            f"{path}: the study {study!r} is not published; {hint(study, known)}{named}"
        )
    folder = known[study] / MODELS / model
    if not model or not folder.is_dir():
        raise UserError(
            f"{path}: no such model of {study} is published; known: "
            f"{', '.join(published_models(known[study]))}"
        )
    return folder


def published_name(path: str | Path) -> tuple[str, str] | None:
    """Study and model of a text such as `sobel3:23`; None: it is something else, such as a path.

    `photos:validation` is a source of pictures, unless a published study is named `photos`.
    """
    match = _PUBLISHED.fullmatch(str(path))
    if match is None or Path(path).exists():
        return None
    study, model = match.groups()
    return (study, model) if _MODEL.fullmatch(model) or study in published_studies() else None


def plain_name(path: str | Path) -> str:
    """The last part of a path, for names of files: `sobel3-23` of the published `sobel3:23`."""
    name = published_name(path)
    return "-".join(name) if name is not None else Path(path).name


def published_studies() -> dict[str, Path]:
    """Name -> folder of every published study: of ./results/reference, then of the package."""
    found: dict[str, Path] = {}
    for place in (Path(REFERENCE), data_dir(REFERENCE)):
        for path in sorted(place.glob(f"*/{FRONT}")):
            found.setdefault(path.parent.name, path.parent)
    return dict(sorted(found.items()))


def published_models(study: Path) -> list[str]:
    """The names of the models in the folder of a published study, sorted by size."""
    names = (path.name for path in (study / MODELS).glob("*"))
    ranked = {name: match for name in names if (match := _MODEL.fullmatch(name))}
    return sorted(ranked, key=lambda name: (int(ranked[name][1]), int(ranked[name][2] or 1)))


def model_names(sizes: Iterable[int]) -> list[str]:
    """A name for each model of a front, from their parameters; of one size the best comes first."""
    count: dict[int, int] = {}
    names = []
    for size in sizes:
        count[size] = count.get(size, 0) + 1
        names.append(f"{size}" if count[size] == 1 else f"{size}-{count[size]}")
    return names
