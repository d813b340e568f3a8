"""The interface of sources of pictures, their registry, and the count of unreadable pictures."""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple, Protocol

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from clapp.config.schema import DataConfig
from clapp.errors import ConfigError, one_line
from clapp.system.registry import Registry
from clapp.system.suggest import hint

Picture = NDArray[np.uint8]


class Skipped:
    """Pictures that could not be read, each named in the log once."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    @property
    def count(self) -> int:
        """How many different pictures were left out."""
        return len(self.names)

    def add(self, name: str, error: Exception) -> None:
        """Note that `name` is left out because of `error`."""
        name = printable(name)
        if name not in self.names:
            self.names[name] = printable(one_line(error))
            logger.warning(f"skipped a bad picture: {name}: {self.names[name]}")


class Source(Protocol):
    """A seeded source of RGB pictures, uint8 (H, W, 3) of any size.

    One with an attribute `channels` gives pictures of so many, see `clapp.images.paired.pairs`.
    """

    skipped: Skipped

    def describe(self) -> str:
        """A short name for messages."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Values for JSON that change whenever the pictures or their order would."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """Yield the pictures of epoch `number`, in its own seeded order, from number `start` on.

        Raises:
            UserError: the source cannot be read, or holds no readable picture.
        """
        ...


class Named(NamedTuple):
    """One source by its name in a configuration, not opened yet: `kind:argument`, or `kind`
    alone."""

    kind: str
    argument: str
    data: DataConfig

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind


class SourceKind(Protocol):
    """An entry of the registry: usually a class that is a `Source` and has a static `shares`."""

    def __call__(self, data: DataConfig, argument: str, /) -> Source:
        """Open the source.

        Args:
            data: the section of the configuration, with split and seed.
            argument: the text after the colon in its name; empty if there is none.

        Raises:
            ConfigError: a wrong argument or split.
            UserError: it cannot be read.
        """
        ...

    def shares(self, mine: Named, other: Named, /) -> bool:
        """Whether `mine`, a source of this kind, and `other`, of any kind, share a picture.

        This compares training and validation pictures before either is opened. A source that does
        not exist shares nothing.
        """
        ...


SOURCES: Registry[SourceKind] = Registry("source of pictures")


def named(data: DataConfig) -> list[Named]:
    """The sources that `data.name` names: one, or the parts of a mix.

    A name without a colon that is not registered is a dataset of the Hugging Face hub.

    Raises:
        ConfigError: an unknown prefix or part of a mix.
    """
    prefix, colon, argument = data.name.partition(":")
    if colon and prefix in SOURCES:
        return [Named(prefix, argument, data)]
    parts = data.name.split("+")
    if not colon:
        if all(part in SOURCES for part in parts) and len(set(parts)) == len(parts):
            return [Named(part, "", data) for part in parts]
        if len(parts) == 1:
            return [Named("huggingface", data.name, data)]
    more = [
        kind
        for kind in SOURCES
        if kind not in ("photos", "synthetic", "folder", "pairs", "tar", "huggingface")
    ]
    raise ConfigError(
        f"unknown source of pictures {data.name!r}; {hint(prefix, SOURCES) if colon else ''}"
        "known: photos, synthetic, photos+synthetic, folder:PATH, pairs:INPUT,TARGET, tar:PATH, "
        "huggingface:NAME, "
        f"{''.join(f'{kind}, ' for kind in more)}or the name of a Hugging Face dataset"
    )


def origins(source: Source, count: int) -> list[int]:
    """Numbers that are equal where two of the first `count` pictures are cut from the same one.

    A source that yields several pictures of one has a method `origins(count)`; from any other, each
    picture is one by itself.
    """
    method = getattr(source, "origins", None)
    return list(range(count)) if method is None else list(method(count))


def stream(source: Source) -> Iterator[Picture]:
    """Yield epoch after epoch, without end."""
    for number in count():
        yield from source.epoch(number)


def check_split(data: DataConfig, allowed: Iterable[str]) -> str:
    """The split that the configuration names.

    Raises:
        ConfigError: it is not one of `allowed`.
    """
    allowed = tuple(allowed)
    if data.split not in allowed:
        raise ConfigError(
            f"split {data.split!r} of {data.name} is not allowed; allowed: {', '.join(allowed)}"
        )
    return data.split


def check_no_argument(data: DataConfig, argument: str) -> None:
    """Refuse `photos:x`.

    Raises:
        ConfigError: there is an argument.
    """
    if argument:
        kind = data.name.partition(":")[0]
        raise ConfigError(f"{data.name}: {kind} takes nothing after a colon; write {kind}")


def printable(text: str) -> str:
    """`text` on one line: control characters and bytes that are not UTF-8 become escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
