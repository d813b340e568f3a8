"""Where pictures come from: seeded sources of RGB uint8 arrays behind one small interface.

Add a source: a class with the methods of `Source`, and a line in one of the two tables below.
"""

from collections.abc import Callable

from clapp.config import DataConfig
from clapp.errors import ConfigError
from clapp.images.folder import Folder
from clapp.images.hub import Hub
from clapp.images.mix import Mix
from clapp.images.photos import Photos
from clapp.images.source import Source, stream
from clapp.images.synthetic import Synthetic

__all__ = ["Source", "open_source", "stream"]

_PLAIN: dict[str, Callable[[DataConfig], Source]] = {"photos": Photos, "synthetic": Synthetic}
_WITH_ARGUMENT: dict[str, Callable[[DataConfig, str], Source]] = {
    "folder": Folder,
    "huggingface": Hub,
}


def open_source(data: DataConfig) -> Source:
    """The source that `data.name` names; what has no prefix we know is a Hugging Face dataset.

    Raises:
        ConfigError: an unknown prefix, part of a mix, or split.
        UserError: a folder that is missing, unreadable or without pictures.
    """
    parts = data.name.split("+")
    if all(part in _PLAIN for part in parts) and len(set(parts)) == len(parts):
        sources = [_PLAIN[part](data) for part in parts]
        return sources[0] if len(sources) == 1 else Mix(sources)
    prefix, colon, argument = data.name.partition(":")
    if not colon and len(parts) == 1:
        return Hub(data, data.name)
    if colon and prefix in _WITH_ARGUMENT:
        return _WITH_ARGUMENT[prefix](data, argument)
    raise ConfigError(
        f"unknown source of pictures {data.name!r}; known: {', '.join(_PLAIN)}, "
        f"{'+'.join(_PLAIN)}, folder:PATH, huggingface:NAME, or the name of a Hugging Face dataset"
    )
