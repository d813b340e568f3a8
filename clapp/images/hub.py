"""Datasets of the Hugging Face hub, or local ones of the same layouts, through `datasets`."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clapp.config import DataConfig
from clapp.errors import ConfigError, UserError, one_line
from clapp.images.decode import to_rgb
from clapp.images.source import Picture, Skipped, listing_digest


class Hub:
    """A dataset of pictures, streamed or downloaded.

    Rows are decoded here rather than by the library, so that a corrupt one can be left out.
    """

    def __init__(self, data: DataConfig, name: str) -> None:
        if not name:
            raise ConfigError(f"{data.name}: huggingface:NAME is expected")
        self.data = data
        self.name = name
        self.skipped = Skipped()

    def describe(self) -> str:
        """Name, configuration and split."""
        subset = f" {self.data.subset}" if self.data.subset else ""
        return f"dataset {self.name}{subset} ({self.data.split})"

    def fingerprint(self) -> dict[str, Any]:
        """Everything that selects and orders the rows; for a local dataset also its listing."""
        keys = {"subset", "split", "image_key", "streaming", "shuffle_buffer", "seed"}
        chosen = self.data.model_dump(include=keys)
        local = Path(self.name)
        if local.is_dir():
            files = sorted(file for file in local.rglob("*") if file.is_file())
            chosen |= {"root": str(local.absolute()), "listing": listing_digest(local, files)}
        return {"kind": "huggingface", "name": self.name, **chosen}

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """Every readable row once."""
        return islice(self._epoch(number), start, None)

    def _epoch(self, number: int) -> Iterator[Picture]:
        from datasets import Image  # type: ignore[import-untyped]

        decoder = Image()
        good = False
        for position, row in enumerate(self._rows(number)):
            value = row[self.data.image_key]
            try:
                picture = to_rgb(decoder.decode_example(value))
            except Exception as error:  # Pillow's decoders raise nearly anything
                name = value.get("path") if isinstance(value, dict) else None
                self.skipped.add(f"{self.name}: {name or f'row {position}'}", error)
                continue
            good = True
            yield picture
        if not good:
            raise UserError(
                f"{self.describe()}: no row of column {self.data.image_key!r} holds a readable "
                f"picture; {self.skipped.count} were tried"
            )

    def _rows(self, number: int) -> Iterator[dict[str, Any]]:
        """The rows in the order of epoch `number`, undecoded."""
        try:
            if self.data.streaming:
                yield from self._streamed(number)
            else:
                yield from self._downloaded(number)
        except UserError:
            raise
        except Exception as error:  # the library raises its own, the hub's and the network's
            raise UserError(f"{self.describe()}: {one_line(error)}{_advice(error)}") from error

    def _streamed(self, number: int) -> Iterator[dict[str, Any]]:
        rows = self._load()
        rows = rows.shuffle(seed=self.data.seed, buffer_size=self.data.shuffle_buffer)
        rows.set_epoch(number)
        yield from rows

    def _downloaded(self, number: int) -> Iterator[dict[str, Any]]:
        rows = self._load()
        for index in np.random.default_rng([self.data.seed, number]).permutation(len(rows)):
            yield rows[int(index)]

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
        return rows.select_columns([data.image_key]).cast_column(
            data.image_key, Image(decode=False)
        )


def _advice(error: BaseException) -> str:
    """What the user can do about an error of `datasets`, as the end of a sentence."""
    text = f"{type(error).__name__} {error}".lower()
    if any(word in text for word in ("gated", "authenticated", "401", "403", "token")):
        return "; ask for access on its page, then run `hf auth login` or set `token`"
    if any(word in text for word in ("connection", "reach", "offline", "timeout", "resolve")):
        return "; check the network, or use pictures that need none: name: photos"
    if "cast" in text:
        return "; does the column image_key hold pictures?"
    if "notfound" in text or "doesn't exist" in text:
        return (
            "; if it is private, run `hf auth login` or set `token`; other sources: "
            "photos, synthetic, photos+synthetic, folder:PATH"
        )
    return ""
