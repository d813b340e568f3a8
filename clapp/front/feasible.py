"""What is within a study's limits, by the limits as they are now."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clapp.front.record import record_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def violations(values: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """How far values are over their limits, as shares of these: at most 0 within, 1 at the double.

    Shares, since Optuna's samplers add the violations of different limits.
    """
    return {name: values[name] / limit - 1 for name, limit in limits.items() if name in values}


def value_of(trial: "FrozenTrial", name: str, objectives: Sequence[str]) -> float | None:
    """The value of an objective of a trial; None: nobody stored it."""
    if trial.values is not None and name in objectives:
        return float(trial.values[list(objectives).index(name)])
    return record_of(trial).value(name)


def is_feasible(
    trial: "FrozenTrial", objectives: Sequence[str], limits: Mapping[str, float]
) -> bool:
    """Whether a trial is within the present limits, as far as its values are known.

    Limits may have changed since it was trained. For a value that an older version did not store,
    the violation of the limit of that time decides.
    """
    for name, limit in limits.items():
        value = value_of(trial, name, objectives)
        if trial.constraints.get(name, 0.0) > 0 if value is None else value > limit:
            return False
    return True
