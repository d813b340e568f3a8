"""The three kinds of search-space parameters: their values, and how Optuna draws them."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import numpy as np
from pydantic import Field, PositiveFloat, ValidationInfo, field_validator

from clapp.config import Section
from clapp.study.pruning.problem import Suggests

N = TypeVar("N", int, float, int | None, float | None)
Scalar: TypeAlias = bool | int | float | str | None
EXACT = 2**53
"""Optuna stores whole numbers as floats, which are exact up to this number."""
Whole = Annotated[int, Field(ge=-EXACT, le=EXACT)]
MOST_STEPS = 1_000_000
GRID_CHECKED = 64
"""An integer grid up to this size is checked value by value, a larger one at its ends."""


class Parameter(Section):
    """What all kinds share."""

    when: dict[str, Any] = Field(default_factory=dict)
    """Condition: other keys of the space -> the value, or list of values, for which this one
    applies."""
    per_layer: bool = False
    """Whether every block of the network has a value of its own."""

    def suggest(self, trial: Suggests, key: str) -> Scalar:
        """Draw a value for `key`."""
        raise NotImplementedError

    def contains(self, value: Any) -> bool:
        """Whether the parameter can take `value`."""
        raise NotImplementedError

    def samples(self) -> Mapping[str, Scalar]:
        """Values to check against the configuration: name in error messages -> value."""
        raise NotImplementedError

    def grid(self, points: int) -> Sequence[Scalar]:
        """The values on a grid; `points` of them if the parameter is continuous."""
        raise NotImplementedError


class IntParameter(Parameter):
    """Whole numbers from `low` to `high`."""

    type: Literal["int"]
    low: Whole
    high: Whole
    step: Annotated[int, Field(ge=1, le=EXACT)] | None = None
    log: bool = False

    @field_validator("high")
    @classmethod
    def _ordered(cls, value: int, info: ValidationInfo) -> int:
        return _at_least_low(value, info)

    @field_validator("step")
    @classmethod
    def _divides(cls, value: int | None, info: ValidationInfo) -> int | None:
        return _reaches_high(value, info)

    @field_validator("log")
    @classmethod
    def _log_possible(cls, value: bool, info: ValidationInfo) -> bool:
        return _log_allowed(value, info)

    def suggest(self, trial: Suggests, key: str) -> int:
        """Draw a value for `key`."""
        return trial.suggest_int(key, self.low, self.high, step=self.step or 1, log=self.log)

    def contains(self, value: Any) -> bool:
        """Whether the parameter can take `value`."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return (
            whole and self.low <= value <= self.high and not (value - self.low) % (self.step or 1)
        )

    def grid(self, points: int) -> Sequence[Scalar]:  # noqa: ARG002
        """All values, as a range, since they may not fit into memory."""
        return range(self.low, self.high + 1, self.step or 1)

    def samples(self) -> Mapping[str, Scalar]:
        """Every value of a small grid, else both ends."""
        grid = range(self.low, self.high + 1, self.step or 1)
        inner = (
            {f"value {value}": value for value in grid[1:-1]} if len(grid) <= GRID_CHECKED else {}
        )
        return {"low": self.low, "high": self.high, **inner}


class FloatParameter(Parameter):
    """Numbers from `low` to `high`."""

    type: Literal["float"]
    low: float
    high: float
    step: PositiveFloat | None = None
    log: bool = False

    @field_validator("high")
    @classmethod
    def _ordered(cls, value: float, info: ValidationInfo) -> float:
        return _at_least_low(value, info)

    @field_validator("step")
    @classmethod
    def _divides(cls, value: float | None, info: ValidationInfo) -> float | None:
        return _reaches_high(value, info)

    @field_validator("log")
    @classmethod
    def _log_possible(cls, value: bool, info: ValidationInfo) -> bool:
        return _log_allowed(value, info)

    def suggest(self, trial: Suggests, key: str) -> float:
        """Draw a value for `key`."""
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Any) -> bool:
        """Whether the parameter can take `value`."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        inside = number and self.low <= value <= self.high
        return inside and (self.step is None or _is_multiple(value - self.low, self.step))

    def grid(self, points: int) -> Sequence[Scalar]:
        """All steps, or without steps `points` values from end to end."""
        if self.step is not None:
            return [
                self.low + i * self.step
                for i in range(round((self.high - self.low) / self.step) + 1)
            ]
        places = np.geomspace if self.log else np.linspace
        return [float(x) for x in places(self.low, self.high, points)]

    def samples(self) -> Mapping[str, Scalar]:
        """Both ends."""
        return {"low": self.low, "high": self.high}


class CategoricalParameter(Parameter):
    """One of `choices`, which may hold null."""

    type: Literal["categorical"]
    choices: list[Scalar]
    weights: list[PositiveFloat] | None = None
    """How often each choice is drawn at random; null: all equally often.

    Only the samplers of this project use them.
    """

    @field_validator("choices")
    @classmethod
    def _distinct(cls, value: list[Scalar]) -> list[Scalar]:
        if not value:
            raise ValueError("[] is not allowed; allowed: a list of at least one value")
        # Optuna looks a value up by ==, for which 1, 1.0 and true are the same choice.
        if len(set(value)) < len(value):
            raise ValueError(f"{value} holds a value twice (1, 1.0 and true are equal)")
        return value

    @field_validator("weights")
    @classmethod
    def _one_each(cls, value: list[float] | None, info: ValidationInfo) -> list[float] | None:
        choices = info.data.get("choices")
        if value is not None and choices is not None and len(value) != len(choices):
            raise ValueError(
                f"{value} has {len(value)} entries; allowed: one for each of the "
                f"{len(choices)} choices"
            )
        return value

    def suggest(self, trial: Suggests, key: str) -> Scalar:
        """Draw a value for `key`."""
        chosen: Scalar = trial.suggest_categorical(key, self.choices)
        return chosen

    def contains(self, value: Any) -> bool:
        """Whether the parameter can take `value`."""
        return any(value == choice and type(value) is type(choice) for choice in self.choices)

    def grid(self, points: int) -> Sequence[Scalar]:  # noqa: ARG002
        """Every choice."""
        return list(self.choices)

    def samples(self) -> Mapping[str, Scalar]:
        """Every choice."""
        return {f"choices[{index}]": value for index, value in enumerate(self.choices)}


KINDS: dict[str, type[Parameter]] = {
    "int": IntParameter,
    "float": FloatParameter,
    "categorical": CategoricalParameter,
}


def _at_least_low(high: N, info: ValidationInfo) -> N:
    low = info.data.get("low")
    if low is not None and high < low:
        raise ValueError(f"{high} is not allowed; allowed: at least low, which is {low}")
    return high


def _reaches_high(step: N, info: ValidationInfo) -> N:
    low, high = info.data.get("low"), info.data.get("high")
    if low is None or high is None or step is None:
        return step
    if not _is_multiple(high - low, step):
        raise ValueError(f"steps of {step} from low {low} do not reach high {high}")
    if isinstance(step, float) and (high - low) / step > MOST_STEPS:
        raise ValueError(f"steps of {step} from {low} to {high} are more than {MOST_STEPS:,}")
    return step


def _log_allowed(log: bool, info: ValidationInfo) -> bool:
    if log and info.data.get("step") is not None:
        raise ValueError("true is not allowed together with step")
    if log and info.data.get("low", 1) <= 0:
        raise ValueError(f"true needs low above 0, not {info.data['low']}")
    return log


def _is_multiple(distance: float, step: float) -> bool:
    try:
        return Decimal(str(round(distance, 12))) % Decimal(str(step)) == 0
    except InvalidOperation:  # the number of steps is infinite or has more than 28 digits
        return False
