"""Tar files of pictures, on this machine or a server, read sequentially without unpacking."""

import io
import re
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image

from clapp.config.schema import DataConfig
from clapp.errors import ConfigError, UserError
from clapp.images.decode import decode
from clapp.images.folder import SPLITS, share
from clapp.images.paths import expanded, is_folder, kind_of, listing_digest, real
from clapp.images.remote.retries import RemoteFile
from clapp.images.source import SOURCES, Named, Picture, Skipped, check_split

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_REMOTE = ("http://", "https://")


@SOURCES.register("tar")
class Tar:
    """`tar:` and a tar file, a folder of them, or a pattern such as `shard-{000..127}.tar`.

    A pattern or file may lie on a server: `tar:https://...`. Files of other kinds in a tar are left
    out. Splits are `all`, or shares of 80, 10 and 10 % by a hash of shard and name. In an epoch the
    shards come in a seeded order, and their pictures are mixed among `shuffle_buffer` of them.
    """

    def __init__(self, data: DataConfig, argument: str) -> None:
        if not argument:
            raise ConfigError(f"{data.name}: tar:PATH is expected")
        self.split = check_split(data, ("all", *SPLITS))
        self.seed, self.mixed = data.seed, data.shuffle_buffer
        self.argument, self.skipped = argument, Skipped()
        self.shards = shards(argument)

    @staticmethod
    def shares(mine: Named, other: Named) -> bool:
        """Whether a shard is in both, unless the splits are different shares of it."""
        if other.kind != mine.kind:
            return False
        splits = {mine.data.split, other.data.split}
        if len(splits) == 2 and "all" not in splits:
            return False
        try:
            return not set(_identities(mine)).isdisjoint(_identities(other))
        except UserError:  # said when it is opened
            return False

    def describe(self) -> str:
        """The pattern and the split."""
        return f"tar {self.argument} ({self.split})"

    def fingerprint(self) -> dict[str, Any]:
        """The shards, sizes and times of those on this machine, and the settings that order
        them."""
        local = [Path(shard) for shard in self.shards if not shard.startswith(_REMOTE)]
        return {
            "kind": "tar",
            "shards": self.shards,
            "listing": [listing_digest(path.parent, [path]) for path in local],
            "split": self.split,
            "seed": self.seed,
            "mixed": self.mixed,
        }

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """Every readable picture once."""
        return islice(self._epoch(number), start, None)

    def _epoch(self, number: int) -> Iterator[Picture]:
        rng = np.random.default_rng([self.seed, number])
        good = 0
        for name, content in self._mix(self._members(rng), rng):
            try:
                picture = decode(content)
            except Exception as error:  # Pillow's decoders raise nearly anything
                self.skipped.add(name, error)
                continue
            good += 1
            yield picture
        if not good:
            raise UserError(f"{self.describe()}: there are no pictures that can be read")

    def _members(self, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
        """Name and content of every picture of the split, shard after shard."""
        suffixes = Image.registered_extensions()
        for place in rng.permutation(len(self.shards)):
            shard = self.shards[place]
            try:
                with _opened(shard) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
                    for member in archive:
                        if not member.isfile() or Path(member.name).suffix.lower() not in suffixes:
                            continue
                        if self.split != "all" and self._share(shard, member.name) != self.split:
                            continue
                        yield (
                            f"{shard}: {member.name}",
                            cast(IO[bytes], archive.extractfile(member)).read(),
                        )
            except (tarfile.TarError, EOFError) as error:
                self.skipped.add(f"the rest of {shard}", error)

    def _share(self, shard: str, name: str) -> str:
        return share(Path(shard.rpartition("/")[2], name))

    def _mix(
        self, members: Iterator[tuple[str, bytes]], rng: np.random.Generator
    ) -> Iterator[tuple[str, bytes]]:
        """The items in another order: each is drawn at random from the next `mixed` ones."""
        waiting: list[tuple[str, bytes]] = []
        for member in members:
            if len(waiting) < self.mixed:
                waiting.append(member)
                continue
            place = int(rng.integers(self.mixed))
            yield waiting[place]
            waiting[place] = member
        for place in rng.permutation(len(waiting)):
            yield waiting[place]


def shards(argument: str) -> list[str]:
    """The tar files that a path or pattern stands for.

    Raises:
        UserError: there are none, or one of them is missing.
    """
    names = _expanded(argument)
    if argument.startswith(_REMOTE):
        return names
    found: list[str] = []
    for name in names:
        path = expanded(name)
        if is_folder(path):
            found += sorted(str(file) for file in path.glob("*.tar"))
            continue
        if kind_of(path) != "a file":
            raise UserError(f"{path}: is {kind_of(path)}; a tar file is expected")
        found.append(str(path))
    if not found:
        raise UserError(f"{argument}: there are no .tar files in it")
    return found


def _expanded(pattern: str) -> list[str]:
    """A pattern with `{first..last}` as the names it stands for."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    names = (
        f"{pattern[: match.start()]}{number:0{len(first)}d}{pattern[match.end() :]}"
        for number in range(int(first), int(last) + 1)
    )
    return [name for one in names for name in _expanded(one)]


def _identities(source: Named) -> Iterator[str]:
    for shard in shards(source.argument):
        yield shard if shard.startswith(_REMOTE) else str(real(shard))


def _opened(shard: str) -> IO[bytes]:
    if shard.startswith(_REMOTE):
        return io.BufferedReader(RemoteFile(shard), 1 << 18)
    return Path(shard).open("rb")
