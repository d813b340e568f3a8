"""Which trials are within the present limits of a study."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clapp.front.objectives import objective
from clapp.front.record import record_of
from clapp.front.trials import is_trained

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def violations(values: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """By how much values exceed their limits, relative to these: 0 or less within, 1 at the double.

    They are relative because Optuna's samplers add the violations of different limits.
    """
    return {name: values[name] / limit - 1 for name, limit in limits.items() if name in values}


def value_of(trial: "FrozenTrial", name: str, objectives: Sequence[str]) -> float | None:
    """The value of an objective of a trial; None: it was not stored."""
    if trial.values is not None and name in objectives:
        return float(trial.values[list(objectives).index(name)])
    return record_of(trial).value(name)


def is_feasible(
    trial: "FrozenTrial", objectives: Sequence[str], limits: Mapping[str, float]
) -> bool:
    """Whether a trial is within the present limits, as far as its values are known.

    Limits may have changed since the trial was trained. If an older version did not store a value,
    the stored violation of the limit at that time decides.
    """
    for name, limit in limits.items():
        value = value_of(trial, name, objectives)
        if trial.constraints.get(name, 0.0) > 0 if value is None else value > limit:
            return False
    return True


def unmet_limits(
    trials: "Sequence[FrozenTrial]", objectives: Sequence[str], limits: Mapping[str, float]
) -> str | None:
    """A message about the limits that no trial met; None: some trained trial met all.

    It is for limits on measured values, such as latency, whose minimum is not known beforehand.
    """
    if any(is_trained(trial) and is_feasible(trial, objectives, limits) for trial in trials):
        return None
    least = {}
    for name in limits:
        values = [value_of(trial, name, objectives) for trial in trials]
        least[name] = min((value for value in values if value is not None), default=0.0)
    tried = f"of {len(trials)} networks that were tried"
    for name, limit in limits.items():
        if least[name] > limit:
            unit = f" {objective(name).unit}".rstrip()
            return (
                f"limits.{name}: {limit:g} is not allowed; allowed: at least "
                f"{least[name]:g}{unit}, the smallest {tried}"
            )
    if all(objective(name).exact for name in limits):
        return None
    pairs = " and ".join(f"{name} {limit:g}" for name, limit in limits.items())
    return f"limits: none {tried} keeps to {pairs} at once; raise one of them"
