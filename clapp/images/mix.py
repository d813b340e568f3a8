"""Several sources in turn."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from clapp.images.source import Picture, Skipped, Source, origins, stream


class Mix:
    """Endless: one picture of each source in turn; a source that ends starts its next epoch."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.skipped = Skipped()
        for source in sources:
            source.skipped = self.skipped

    def describe(self) -> str:
        """The sources' own descriptions."""
        return " + ".join(source.describe() for source in self.sources)

    def fingerprint(self) -> dict[str, Any]:
        """The sources' own fingerprints."""
        return {"kind": "mix", "sources": [source.fingerprint() for source in self.sources]}

    def origins(self, count: int) -> list[int]:
        """Numbers that are equal where two of the first `count` pictures are of one."""
        known: dict[tuple[int, int], int] = {}
        number, parts = len(self.sources), []
        for place, source in enumerate(self.sources):
            taken = len(range(place, count, number))
            parts.append(iter([(place, one) for one in origins(source, taken)]))
        keys = [next(parts[position % number]) for position in range(count)]
        return [known.setdefault(key, len(known)) for key in keys]

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:  # noqa: ARG002
        """Pictures without end, so that there is only one epoch."""
        return islice(self._epoch(), start, None)

    def _epoch(self) -> Iterator[Picture]:
        streams = [stream(source) for source in self.sources]
        while True:
            for pictures in streams:
                yield next(pictures)
