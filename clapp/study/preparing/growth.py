"""Growth: a study continues with a larger search space and keeps its old trials.

Ranges may become wider, and choices and keys may be added; old trials get the value that the study
had fixed. Any other change is refused. Optuna accepts wider ranges but no other choices, so trials
are rewritten if choices or keys change.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from clapp.errors import UserError
from clapp.front.record import NOTED, record_of
from clapp.study.plan.parameters import Scalar
from clapp.study.plan.plan import Plan
from clapp.study.storage import liveness
from clapp.system.files import shown

if TYPE_CHECKING:
    from optuna import Study

GROWN = "grown"
"""Attribute of a complete copy, which only has to replace the study."""
_SUFFIX = ".growing"


class Growth(NamedTuple):
    """The extension of a search space.

    Attributes:
        words: each change in words, such as `model.capacity: high 8 -> 16`.
        rewrites: whether old trials have to be rewritten.
    """

    words: list[str]
    rewrites: bool


def growth(old: Mapping[str, Any], new: Mapping[str, Any]) -> Growth:
    """The extension from one search space to another, both as `Space.document()`.

    Raises:
        ValueError: the new space does not contain the old one; the message names the difference.
    """
    words, rewrites = [], False
    for key in old:
        if key not in new:
            raise ValueError(f"search_space.{key}: it is searched no longer")
    for key, parameter in new.items():
        if key not in old:
            words.append(f"{key} is searched too")
            rewrites = True
        elif parameter != old[key]:
            said, anew = _grown(f"search_space.{key}", old[key], parameter)
            words += [f"{key}: {text}" for text in said]
            rewrites |= anew
    return Growth(words, rewrites)


def _grown(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], bool]:
    for name in ("type", "log"):
        if old.get(name) != new.get(name):
            raise ValueError(
                f"{where}.{name}: {shown(old.get(name))} became {shown(new.get(name))}"
            )
    said = _condition(where, old.get("when", {}), new.get("when", {}))
    rewrites = bool(said)
    if new["type"] == "categorical":
        more = _more(where, old["choices"], new["choices"])
        rewrites |= old["choices"] != new["choices"]
        said += [f"choices {', '.join(map(str, more))} too"] if more else []
        return said, rewrites
    for name, shrunk in (("low", new["low"] > old["low"]), ("high", new["high"] < old["high"])):
        if shrunk:
            raise ValueError(f"{where}.{name}: {old[name]} became {new[name]}, which is narrower")
        if new[name] != old[name]:
            said.append(f"{name} {old[name]} -> {new[name]}")
    if old.get("step") != new.get("step"):
        raise ValueError(f"{where}.step: {old.get('step')} became {new.get('step')}")
    return said, rewrites


def _more(where: str, old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """The choices that are new."""

    def known(value: Any, choices: Sequence[Any]) -> bool:
        return any(value == choice and type(value) is type(choice) for choice in choices)

    for value in old:
        if not known(value, new):
            raise ValueError(f"{where}.choices: {value!r} is no choice any longer")
    return [value for value in new if not known(value, old)]


def _condition(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    for key, allowed in new.items():
        if key not in old:
            raise ValueError(f"{where}.when.{key}: this condition is new")
        before, now = (v if isinstance(v, list) else [v] for v in (old[key], allowed))
        for value in before:
            if value not in now:
                raise ValueError(f"{where}.when.{key}: it does not apply to {value!r} any longer")
    return ["applies more often"] if old != new else []


def rewrite(
    plan: Plan, study: "Study", storage: BaseStorage, locks: Path, before: Mapping[str, Any]
) -> "Study":
    """Rewrite the study with the same trials, numbers and attributes for the plan's space.

    A copy is made beside it, marked as complete, and then replaces it; `finish` completes this if
    the process was killed meanwhile.

    Args:
        before: the dotted configuration with which the study was started.

    Raises:
        UserError: the study is being run, or a trial has not ended.
    """
    trials = study.get_trials(deepcopy=False)
    running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
    if running or liveness.any_alive(locks):
        raise UserError(
            f"study {plan.name}: it is being run, or trial {running[0] if running else '?'} was "
            "left behind; end it, and run it once more as it was, before its search space grows"
        )
    name = plan.name + _SUFFIX
    if name in optuna.get_all_study_names(storage):  # left by a process that was killed
        optuna.delete_study(study_name=name, storage=storage)
    copied = optuna.create_study(study_name=name, storage=storage, directions=study.directions)
    for trial in trials:
        copied.add_trial(_redrawn(plan, trial, before))
    origin, place = (storage.get_study_id_from_name(n) for n in (plan.name, name))
    for key, value in storage.get_study_system_attrs(origin).items():
        storage.set_study_system_attr(place, key, value)
    for key, value in study.user_attrs.items():
        if key not in (GROWN, NOTED):  # of an earlier growth, and of trials with other ids
            copied.set_user_attr(key, value)
    copied.set_user_attr(GROWN, True)
    finish(plan.name, storage)
    return optuna.load_study(study_name=plan.name, storage=storage)


def finish(name: str, storage: BaseStorage) -> None:
    """Replace study `name` by its complete copy, if there is one."""
    names = optuna.get_all_study_names(storage)
    if name + _SUFFIX not in names:
        return
    copied = optuna.load_study(study_name=name + _SUFFIX, storage=storage)
    if not copied.user_attrs.get(GROWN):
        return
    if name in names:
        optuna.delete_study(study_name=name, storage=storage)
    optuna.copy_study(
        from_study_name=copied.study_name,
        from_storage=storage,
        to_storage=storage,
        to_study_name=name,
    )
    optuna.delete_study(study_name=copied.study_name, storage=storage)


def _redrawn(plan: Plan, trial: FrozenTrial, before: Mapping[str, Any]) -> FrozenTrial:
    """A trial with its parameters in the plan's space."""
    redrawn = copy.copy(trial)
    if not trial.params:  # it waits, or its parameters were never drawn
        return redrawn
    baseline = record_of(trial).baseline
    changes = plan.baseline(baseline) if baseline in plan.file.named_baselines else {}
    values = plan.space.represent({**plan.base, **before, **changes, **trial.params})
    drawn = _Drawn(values)
    for key in values:
        plan.space.parameters[key].suggest(drawn, key)
    redrawn.params, redrawn.distributions = values, drawn.distributions
    return redrawn


class _Drawn:
    """Gives a space known values instead of drawing them, and records the distributions."""

    def __init__(self, values: Mapping[str, Scalar]) -> None:
        self._values = values
        self.distributions: dict[str, BaseDistribution] = {}

    def _note(self, name: str, distribution: BaseDistribution) -> Any:
        self.distributions[name] = distribution
        return self._values[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`."""
        return self._note(name, CategoricalDistribution(choices))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number from `low` to `high`."""
        chosen: int = self._note(name, IntDistribution(low, high, log, step))
        return chosen

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from `low` to `high`."""
        chosen: float = self._note(name, FloatDistribution(low, high, log, step))
        return chosen
