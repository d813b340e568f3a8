"""Splits of a dataset as `datasets` writes them: `train`, `train[:10%]`, `train[100:]+test`.

https://huggingface.co/docs/datasets/loading#slice-splits
"""

import re
from typing import NamedTuple

_PART = re.compile(
    r"(?P<name>[^\[\]]+?)\s*(\[\s*(?P<start>-?\d+)?\s*(?P<p>%)?\s*:"
    r"\s*(?P<end>-?\d+)?\s*(?P<q>%)?\s*\](\([^()]*\))?)?"
)


class Bound(NamedTuple):
    """A position in a split: `value` rows, per cent, or (0 and below) rows from its end."""

    value: int
    unit: str


class Part(NamedTuple):
    """The rows of the split `name` from `start` to `end`."""

    name: str
    start: Bound
    end: Bound


ROWS, FROM_END, PERCENT = "rows", "rows from the end", "%"
START, END = Bound(0, ROWS), Bound(0, FROM_END)


def parts_of(split: str) -> list[Part] | None:
    """The parts whose sum a split is; None if it is not in the notation of `datasets`."""
    parts = []
    for text in split.split("+"):
        match = _PART.fullmatch(text.strip())
        if match is None:
            return None
        # `train[10:20%]` is 10 to 20 per cent.
        percent = bool(match["p"] or match["q"])
        start, end = _bound(match["start"], percent, START), _bound(match["end"], percent, END)
        parts.append(Part(match["name"], start, end))
    return parts


def is_plain(split: str) -> bool:
    """Whether a split is a plain name, neither a slice nor a sum."""
    return "+" not in split and "[" not in split


def overlap(one: str, other: str) -> bool:
    """Whether two splits of a dataset have, or may have, rows in common.

    The number of rows is not known: `train[:10%]` and `train[1000:]` may.
    """
    ours, theirs = parts_of(one), parts_of(other)
    if ours is None or theirs is None:
        return one == other
    return any(_meet(mine, their) for mine in ours for their in theirs)


def _meet(one: Part, other: Part) -> bool:
    if one.name != other.name and "all" not in (one.name, other.name):
        return False
    if "all" in (one.name, other.name) and one.name != other.name:
        return True
    apart = _before(one.end, other.start) or _before(other.end, one.start)
    return not apart and not _empty(one) and not _empty(other)


def _empty(part: Part) -> bool:
    return _before(part.end, part.start)


def _before(end: Bound, start: Bound) -> bool:
    """Whether `end` lies at or before `start` whatever the number of rows."""
    if end in (START, Bound(0, PERCENT)) or start in (END, Bound(100, PERCENT)):
        return True
    return end.unit == start.unit and end.value <= start.value


def _bound(text: str | None, percent: bool, missing: Bound) -> Bound:
    if text is None:
        if percent:
            return Bound(0 if missing == START else 100, PERCENT)
        return missing
    value = int(text)
    if percent:
        return Bound(min(max(value + 100 if value < 0 else value, 0), 100), PERCENT)
    return Bound(value, FROM_END if value < 0 else ROWS)
