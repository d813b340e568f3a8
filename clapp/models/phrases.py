"""Helpers for descriptions of networks in words."""

from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """Such as "1 block", "2 blocks"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def joined(parts: Iterable[str]) -> str:
    """The parts that are not empty, with commas between them."""
    return ", ".join(part for part in parts if part)


def one_each(words: Iterable[str]) -> str:
    """A text about each block, written once if it is the same for all blocks."""
    said = list(words)
    if len(set(said)) == 1:
        return said[0]
    return " then ".join(word or "nothing" for word in said)
