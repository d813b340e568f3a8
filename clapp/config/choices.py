"""Fields that take the names in a registry, which is read when a value is checked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import AfterValidator, GetJsonSchemaHandler

from clapp.system.suggest import hint


@dataclass(frozen=True)
class _OneOf(AfterValidator):
    names: Callable[[], Iterable[str]]

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> Any:
        return handler(schema) | {"enum": list(self.names())}


def one_of(names: Callable[[], Iterable[str]]) -> AfterValidator:
    """A validator that takes only the names that `names()` returns when a value is checked.

    Names that were registered after this module was imported count too.
    """

    def check(value: Any) -> Any:
        known = list(names())
        if value not in known:
            raise ValueError(
                f"{value!r} is not allowed; {hint(str(value), known)}allowed: {', '.join(known)}"
            )
        return value

    return _OneOf(check, names)


def registered(module: str, function: str) -> Callable[[], Iterable[str]]:
    """A function that imports `module`, calls its function `function`, and returns the names.

    The registries of losses and optimisers import the configuration, so it cannot import them.
    """

    def names() -> Iterable[str]:
        found: Iterable[str] = getattr(import_module(module), function)()
        return found

    return names
