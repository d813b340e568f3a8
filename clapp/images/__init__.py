"""Sources of pictures: seeded streams of RGB uint8 arrays behind one small interface.

Each source is a class in a file of its own, registered in `SOURCES`. Sources from outside the
package work the same way. In a module that can be imported, say `frames.py`:

    import clapp
    from clapp.images import Skipped

    class Frames:
        \"\"\"Pictures of a camera; `name: frames:CAMERA`.\"\"\"

        def __init__(self, data, argument):
            self.camera, self.split, self.seed = argument, data.split, data.seed
            self.skipped = Skipped()

        @staticmethod
        def shares(mine, other):  # compared before either is opened, see SourceKind
            same = (mine.kind, mine.argument) == (other.kind, other.argument)
            return same and mine.data.split == other.data.split

        def describe(self): ...
        def fingerprint(self): ...
        def epoch(self, number, start=0): ...  # yields uint8 (H, W, 3), see Source

    clapp.register_source("frames", Frames)

A source that yields several crops of one picture says so with `origins(count)`: a number for each
of the first `count`, equal for crops of the same picture. Intervals of losses are over pictures.

After `import frames`, `train_data.name=frames:3` works. The process that fills the pool imports
that module too, from the same search path.
"""

from clapp.config.schema import DataConfig
from clapp.errors import ConfigError
from clapp.images.folder import Folder
from clapp.images.hub import Hub
from clapp.images.mix import Mix
from clapp.images.paired.pairs import Pairs
from clapp.images.photos import Photos
from clapp.images.source import (
    SOURCES,
    Named,
    Skipped,
    Source,
    SourceKind,
    named,
    origins,
    stream,
)
from clapp.images.synthetic import Synthetic
from clapp.images.tar import Tar

__all__ = [
    "SOURCES",
    "Folder",
    "Hub",
    "Named",
    "Pairs",
    "Photos",
    "Skipped",
    "Source",
    "SourceKind",
    "Synthetic",
    "Tar",
    "edition",
    "open_source",
    "origins",
    "pairs_named",
    "register_source",
    "shared_pictures",
    "stream",
]


def register_source(name: str, kind: SourceKind) -> SourceKind:
    """Register a source as `name`, used as `name` or `name:ARGUMENT`; see above and `SourceKind`.

    Raises:
        UserError: the name is taken or not a name.
    """
    return SOURCES.add(name, kind)


def open_source(data: DataConfig) -> Source:
    """Open the source that `data.name` names; a name without a known prefix is a Hugging Face
    dataset.

    Raises:
        ConfigError: an unknown prefix, part of a mix, or split.
        UserError: a folder that is missing, unreadable or without pictures.
    """
    sources = [SOURCES[part.kind](data, part.argument) for part in named(data)]
    return sources[0] if len(sources) == 1 else Mix(sources)


def edition(data: DataConfig) -> int:
    """The edition of the packaged pictures in a source; 1 where it has none."""
    try:
        return max(getattr(SOURCES[part.kind], "edition", 1) for part in named(data))
    except ConfigError:  # said when it is opened
        return 1


def pairs_named(data: DataConfig) -> bool:
    """Whether a section names pairs of pictures."""
    return data.name.partition(":")[0] == "pairs"


def shared_pictures(one: DataConfig, other: DataConfig) -> str | None:
    """Name the sources of two sections that share pictures, as "A and B"; None: none do."""
    try:
        ours, theirs = named(one), named(other)
    except ConfigError:  # the error is raised when the source is opened
        return None
    for mine in ours:
        for their in theirs:
            if SOURCES[mine.kind].shares(mine, their) or SOURCES[their.kind].shares(their, mine):
                return str(mine) if str(mine) == str(their) else f"{mine} and {their}"
    return None
