"""Parameters of filters: the values that each allows, and the errors for other values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from clapp.errors import ConfigError
from clapp.system.suggest import hint


class Parameter(Protocol):
    """One parameter of a filter.

    Attributes:
        default: the value if none is given.
    """

    @property
    def default(self) -> Any:
        """The value if none is given."""
        ...

    @property
    def allowed(self) -> str:
        """The values that are allowed, in words."""
        ...

    def taken(self, value: Any) -> Any:
        """Check `value` and convert it for the filter's function.

        Raises:
            ValueError: the value is not allowed.
        """
        ...


@dataclass(frozen=True)
class Int:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int
    default: int

    @property
    def allowed(self) -> str:
        """The values that are allowed, in words."""
        return f"whole numbers from {self.low} to {self.high}"

    def taken(self, value: Any) -> int:
        """See `Parameter`."""
        if isinstance(value, int) and not isinstance(value, bool) and self._holds(value):
            return value
        raise ValueError

    def _holds(self, value: int) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Odd(Int):
    """Odd whole numbers from `low` to `high`; also 0 if `zero` says what 0 means."""

    zero: str = ""

    @property
    def allowed(self) -> str:
        """The values that are allowed, in words."""
        more = f", or 0: {self.zero}" if self.zero else ""
        return f"odd whole numbers from {self.low} to {self.high}{more}"

    def _holds(self, value: int) -> bool:
        return (self.low <= value <= self.high and value % 2 == 1) or (
            value == 0 and bool(self.zero)
        )


@dataclass(frozen=True)
class Float:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    default: float

    @property
    def allowed(self) -> str:
        """The values that are allowed, in words."""
        return f"numbers from {self.low:g} to {self.high:g}"

    def taken(self, value: Any) -> float:
        """See `Parameter`."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value) and self.low <= value <= self.high:
            return float(value)
        raise ValueError


@dataclass(frozen=True)
class Flag:
    """True or false."""

    default: bool

    @property
    def allowed(self) -> str:
        """The values that are allowed, in words."""
        return "true or false"

    def taken(self, value: Any) -> bool:
        """See `Parameter`."""
        if isinstance(value, bool):
            return value
        raise ValueError


@dataclass(frozen=True)
class Choice:
    """One of a few values; the first is the default."""

    choices: tuple[int | str, ...]

    @property
    def default(self) -> int | str:
        """The first value."""
        return self.choices[0]

    @property
    def allowed(self) -> str:
        """The values that are allowed, in words."""
        return ", ".join(map(str, self.choices))

    def taken(self, value: Any) -> int | str:
        """See `Parameter`."""
        for choice in self.choices:
            if value == choice and type(value) is type(choice):
                return choice
        raise ValueError


@dataclass(frozen=True)
class Matrix:
    """A matrix of `shape` (rows, columns), with numbers of magnitude at most `most`."""

    shape: tuple[int, int]
    most: float
    default: Sequence[Sequence[float]]

    @property
    def allowed(self) -> str:
        """The values that are allowed, in words."""
        return (
            f"{self.shape[0]} rows of {self.shape[1]} numbers from {-self.most:g} to {self.most:g}"
        )

    def taken(self, value: Any) -> list[list[float]]:
        """See `Parameter`."""
        if not isinstance(value, list | tuple) or len(value) != self.shape[0]:
            raise ValueError
        one = Float(-self.most, self.most, 0)
        rows = []
        for row in value:
            if not isinstance(row, list | tuple) or len(row) != self.shape[1]:
                raise ValueError
            rows.append([one.taken(number) for number in row])
        return rows


def complete(
    name: str, parameters: Mapping[str, Parameter], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of all parameters of the filter `name`; missing ones get their defaults.

    Raises:
        ConfigError: an unknown parameter, or a value that is not allowed.
    """
    for key in given:
        if key not in parameters:
            known = ", ".join(parameters) or "none; it has no parameters"
            raise ConfigError(
                f"filter {name}: unknown parameter {key!r}; {hint(str(key), parameters)}"
                f"known: {known}"
            )
    values = {}
    for key, parameter in parameters.items():
        value = given.get(key, parameter.default)
        try:
            values[key] = parameter.taken(value)
        except ValueError:
            raise ConfigError(
                f"filter {name}: {key} {value!r} is not allowed; allowed: {parameter.allowed}"
            ) from None
    return values
