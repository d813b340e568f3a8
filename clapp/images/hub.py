"""Datasets of the Hugging Face hub, or local ones of the same layouts, through `datasets`."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clapp.config.schema import DataConfig
from clapp.errors import ConfigError, UserError, one_line
from clapp.images import splits
from clapp.images.decode import decode
from clapp.images.paths import is_folder, listing_digest, read_file, real
from clapp.images.remote.retries import RemoteFile, read_again, resumed
from clapp.images.source import SOURCES, Named, Picture, Skipped

_LISTS = ("list", "List", "LargeList", "Sequence")
_ROW = "clapp_row"  # name of the column for row numbers while streaming


@SOURCES.register("huggingface")
class Hub:
    """A dataset of pictures, streamed or downloaded.

    Rows are decoded here rather than by the library, so that a corrupt one can be left out.
    """

    def __init__(self, data: DataConfig, argument: str) -> None:
        if not argument:
            raise ConfigError(f"{data.name}: huggingface:NAME is expected")
        self.data = data
        self.name = argument
        self.skipped = Skipped()

    @staticmethod
    def shares(mine: Named, other: Named) -> bool:
        """Whether dataset, subset and split may all overlap.

        A subset of null may be any subset. `Folder.shares` compares a local dataset with a folder.
        """
        if other.kind != mine.kind or _identity(mine.argument) != _identity(other.argument):
            return False
        subsets = {mine.data.subset, other.data.subset}
        return (None in subsets or len(subsets) == 1) and splits.overlap(
            mine.data.split, other.data.split
        )

    def describe(self) -> str:
        """Name, configuration and split."""
        subset = f" {self.data.subset}" if self.data.subset else ""
        return f"dataset {self.name}{subset} ({self.data.split})"

    def fingerprint(self) -> dict[str, Any]:
        """The values that select and order the rows; of a local dataset also a digest of its
        files."""
        keys = {"subset", "split", "image_key", "streaming", "shuffle_buffer", "seed"}
        chosen = self.data.model_dump(include=keys)
        local = Path(self.name)
        if is_folder(local):
            files = sorted(file for file in local.rglob("*") if file.is_file())
            chosen |= {"root": str(local.absolute()), "listing": listing_digest(local, files)}
        return {"kind": "huggingface", "name": self.name, **chosen}

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """Every readable row once."""
        return islice(self._epoch(number), start, None)

    def _epoch(self, number: int) -> Iterator[Picture]:
        good = tried = False
        for row, value in self._rows(number):
            tried = True
            try:
                picture = decode(self._content(value))
            except Exception as error:  # Pillow's decoders raise nearly anything
                self.skipped.add(f"{self.name}: {self._label(row, value)}", error)
                continue
            good = True
            yield picture
        if not tried:
            raise UserError(f"{self.describe()}: the split has no rows")
        if not good:
            name, reason = next(iter(self.skipped.names.items()))
            raise UserError(
                f"{self.describe()}: no row of column {self.data.image_key!r} holds a readable "
                f"picture; {self.skipped.count} were tried; the first: {name}: {reason}"
            )

    def _content(self, value: Any) -> bytes:
        """The bytes of a picture's file, from a cell: {"bytes": ..., "path": ...}."""
        content, path = _cell(value)
        if content:
            return content
        if path is None:
            raise ValueError("the cell is empty")
        from datasets import DownloadConfig, config  # type: ignore[import-untyped]
        from datasets.utils.file_utils import is_local_path, xopen  # type: ignore[import-untyped]

        if is_local_path(path):
            return read_file(Path(path))
        if path.startswith(("http://", "https://")) and not path.startswith(config.HF_ENDPOINT):
            with RemoteFile(path) as remote:
                return remote.readall()

        def read() -> bytes:
            with xopen(path, "rb", download_config=DownloadConfig(token=self.data.token)) as file:
                found: bytes = file.read()
            return found

        return read_again(read, path)

    def _label(self, row: int | None, value: Any) -> str:
        """A row as messages name it: its path and its number, or a digest if the number is
        unknown."""
        content, path = _cell(value)
        if row is not None:
            where = f"row {row} of {self.data.split}"
        elif content:
            where = f"the picture with SHA-256 {hashlib.sha256(content).hexdigest()[:12]}"
        else:
            where = "a row without a picture" if path is None else ""
        return ", ".join(filter(None, [path, where]))

    def _rows(self, number: int) -> Iterator[tuple[int | None, Any]]:
        """Yield row number (None: unknown) and undecoded cell, in the order of epoch `number`."""
        try:
            rows = self._streamed if self.data.streaming else self._downloaded
            yield from resumed(lambda start: islice(rows(number), start, None), self.describe())
        except UserError:
            raise
        except Exception as error:  # of the library, the hub or the network
            raise UserError(f"{self.describe()}: {_reason(error)}") from error

    def _streamed(self, number: int) -> Iterator[tuple[int | None, Any]]:
        if not splits.is_plain(self.data.split):
            raise UserError(
                f"{self.describe()}: slices and sums of splits cannot be streamed (streaming): "
                "set streaming: false, which downloads the dataset, or name one split"
            )
        rows = self._load()
        if rows.num_shards == 1:  # with several files, shuffling hides which row it was
            rows = rows.map(lambda row, index: row | {_ROW: index}, with_indices=True)
        rows = rows.shuffle(seed=self.data.seed, buffer_size=self.data.shuffle_buffer)
        rows.set_epoch(number)
        for row in rows:
            yield row.get(_ROW), row[self.data.image_key]

    def _downloaded(self, number: int) -> Iterator[tuple[int | None, Any]]:
        rows = self._load()
        for index in np.random.default_rng([self.data.seed, number]).permutation(len(rows)):
            yield int(index), rows[int(index)][self.data.image_key]

    def _load(self) -> Any:
        """The split with its pictures undecoded: a Dataset, or an IterableDataset to stream."""
        from datasets import Image, load_dataset

        data = self.data
        rows = load_dataset(
            self.name, data.subset, split=data.split, streaming=data.streaming, token=data.token
        )
        columns = rows.column_names or list(next(iter(rows), {}))
        if data.image_key not in columns:
            raise UserError(
                f"{self.describe()}: there is no column {data.image_key!r} (image_key); "
                f"its columns: {', '.join(columns)}"
            )
        feature = (rows.features or {}).get(data.image_key)
        if type(feature).__name__ in _LISTS:
            raise UserError(
                f"{self.describe()}: each row of column {data.image_key!r} (image_key) holds a "
                "list; one picture a row is expected"
            )
        return rows.select_columns([data.image_key]).cast_column(
            data.image_key, Image(decode=False)
        )


def _identity(name: str) -> Path | str:
    """The identity of a dataset: the folder of a local one, else its name in lower case."""
    local = Path(name)
    return real(local) if is_folder(local) else name.strip("/").casefold()


def _cell(value: Any) -> tuple[bytes | None, str | None]:
    """The bytes and the path in a cell of a column of pictures."""
    if isinstance(value, dict):
        return value.get("bytes"), value.get("path")
    return None, value if isinstance(value, str) else None


def _reason(error: BaseException) -> str:
    """The message of `datasets`, the error that caused it, and advice for the user."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    behind = "" if first is error else f": {one_line(first)}"
    return f"{one_line(error)}{behind}{_advice(error) or _advice(first)}"


def _advice(error: BaseException) -> str:
    """Advice about an error of `datasets`, as the end of a sentence."""
    text = f"{type(error).__name__} {error}".lower()
    if any(word in text for word in ("gated", "authenticated", "401", "403", "token")):
        return "; ask for access on its page, then run `hf auth login` or set `token`"
    if any(word in text for word in ("connection", "reach", "offline", "timeout", "resolve")):
        return "; check the network, or use pictures that need none: name: photos"
    if "batchsize must be greater than 0" in text:
        return "; a file of this split has no rows"
    if "cast" in text:
        return "; does the column image_key hold pictures?"
    if "notfound" in text or "doesn't exist" in text:
        return (
            "; if it is private, run `hf auth login` or set `token`; other sources: "
            "photos, synthetic, photos+synthetic, folder:PATH"
        )
    return ""
