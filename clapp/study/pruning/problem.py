"""The part of a study that samplers see: names, limits, search space, and configurations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from clapp.config import Config
    from clapp.study.plan.parameters import Parameter


class Suggests(Protocol):
    """A source of values: an Optuna trial, or any object with these three methods."""

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
    """A search space; `clapp.study.plan.space.Space` implements it."""

    def suggest(self, trial: Suggests, base: Mapping[str, Any]) -> dict[str, Any]:
        """Draw all keys whose conditions hold; `base` maps all other dotted keys to values."""
        ...

    def represent(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The trial parameters that correspond to a configuration of dotted keys."""
        ...

    def columns(self) -> "Mapping[str, Parameter]":
        """Every name of a trial parameter, with its definition."""
        ...

    def weights(self) -> "Mapping[str, Sequence[float]]":
        """Name -> how often each choice is drawn, for parameters with unequal chances."""
        ...

    def column_documents(self) -> dict[str, Any]:
        """The columns as mappings that a file could hold."""
        ...


class Problem(Protocol):
    """A sampler's view of a study; `clapp.study.plan.plan.Plan` implements it."""

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
        """The loss of the best constant prediction; None: it is not computed yet."""
        ...

    @property
    def space(self) -> SearchSpace:
        """The search space."""
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
