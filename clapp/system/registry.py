"""Registries map names to entries, for everything that a user may add to.

Losses, activations, samplers, pruners, objectives, image sources, filters and model families are
each one `Registry`. It refuses a name twice and lists the known names where one is unknown.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from clapp.errors import ConfigError, UserError
from clapp.system.suggest import hint

T = TypeVar("T")
E = TypeVar("E")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)


class Registry(Mapping[str, T], Generic[T]):
    """Entries by name, in the order in which they were registered.

    It is a mapping that can be read like any other; only `add` and `register` write to it.

        LOSSES: Registry[Loss] = Registry("loss")

        @LOSSES.register("l1")
        def l1(prediction, target): ...

        LOSSES.find("l1")  # ConfigError where it is unknown, with the known names
    """

    def __init__(self, kind: str) -> None:
        """`kind` is what messages call an entry, such as "loss"."""
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register `entry` as `name`, and return it.

        Raises:
            UserError: the name is taken by another entry, or is not letters, digits, `_`, `.` and
                `-`, the first of them a letter or digit.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(
                f"{self.kind} {name!r}: not a name; allowed: letters, digits, _, . and -, the "
                "first of them a letter or digit"
            )
        if name in self._entries and self._entries[name] is not entry:
            raise UserError(f"{self.kind} {name!r} is registered already; choose another name")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[E], E]:
        """A decorator that registers a function or class as `name`; see `add`."""

        def keep(entry: E) -> E:
            self.add(name, entry)  # type: ignore[arg-type]
            return entry

        return keep

    def remove(self, name: str) -> None:
        """Remove `name`; tests remove the entries that they have added."""
        del self._entries[name]

    def find(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            ConfigError: there is none; the message lists the known names.
        """
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise ConfigError(
                f"{self.kind} {name!r} is not known; {hint(str(name), self)}"
                f"known: {', '.join(self)}"
            ) from None

    def names(self) -> list[str]:
        """The known names."""
        return list(self._entries)

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
