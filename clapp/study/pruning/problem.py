"""What a sampler is told of a study: names, limits, a space, and how to make a configuration."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from clapp.config import Config
    from clapp.study.plan.parameters import Parameter


class Suggests(Protocol):
    """What values are asked of: an Optuna trial, or anything with its three methods."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`."""
        ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number from `low` to `high`."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from `low` to `high`."""
        ...


class SearchSpace(Protocol):
    """The keys to draw; `clapp.study.plan.space.Space` is one."""

    def suggest(self, trial: Suggests, base: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the keys that apply; `base` holds the dotted values of all others."""
        ...

    def represent(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that a configuration, as dotted values, would have had as a trial."""
        ...

    def columns(self) -> "Mapping[str, Parameter]":
        """Every name under which a trial may be asked for a value, and its parameter."""
        ...

    def weights(self) -> "Mapping[str, Sequence[float]]":
        """Name -> how often each choice of it is drawn, for those with uneven chances."""
        ...

    def column_documents(self) -> dict[str, Any]:
        """The same as they could be written in a file."""
        ...


class Problem(Protocol):
    """What a sampler works on; `clapp.study.plan.plan.Plan` is one."""

    @property
    def name(self) -> str:
        """The study's name."""
        ...

    @property
    def seed(self) -> int:
        """The study's seed."""
        ...

    @property
    def objectives(self) -> Sequence[str]:
        """Names of the objectives, all minimised; "loss" is one of them."""
        ...

    @property
    def limits(self) -> Mapping[str, float]:
        """Objective -> its largest value allowed, for those that have one."""
        ...

    @property
    def constant_loss(self) -> float | None:
        """The loss of the best constant prediction; None: nobody has worked it out."""
        ...

    @property
    def space(self) -> SearchSpace:
        """What to draw from."""
        ...

    @property
    def base(self) -> Mapping[str, Any]:
        """The configuration under all trials, as dotted keys."""
        ...

    def config(self, changes: Mapping[str, Any], seed: int, device: str | None) -> "Config":
        """The configuration of one trial: `changes` are dotted keys laid over the study's.

        Raises:
            ConfigError: the combination is impossible.
        """
        ...
