"""Remove from a search space the values that do not run on the study's target."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from loguru import logger

from clapp.config import Layer, compose, nest
from clapp.errors import ConfigError
from clapp.models.graph.footprint import steps_of
from clapp.models.targets.profile import Profile, find_target
from clapp.study.plan.parameters import CategoricalParameter, Parameter, Scalar
from clapp.study.plan.space import Space

_PLAIN = {
    "model.activation": "relu",
    "model.norm": "none",
    "model.padding": "zero",
    "model.output_activation": "none",
    "model.output_norm": "none",
    "model.downsample": 1,
    "model.depthwise": False,
    "model.separable": False,
    "model.kernel_size": 3,
}
"""A network that runs on all targets; one key at a time is changed to test that key."""


def for_target(space: Space, target: str, base: Iterable[Layer], origin: str) -> Space:
    """The space without the choices that the target does not support.

    Each removed choice is logged with the reason.

    Args:
        base: the study's configuration, under all trials.
        origin: the study's name in error messages.

    Raises:
        ConfigError: no choice of a key is left, or a value that the study fixes does not run there.
    """
    profile, layers = find_target(target), list(base)
    reduced: dict[str, Parameter] = {}
    for key, parameter in space.parameters.items():
        kept = _kept(key, parameter, profile, target, layers)
        if kept is None:
            raise ConfigError(
                f"{space.origin}: {key}: none of its choices runs on target {target}: "
                f"{_problem(key, next(iter(parameter.samples().values())), profile, layers)}"
            )
        reduced[key] = kept
    _check_fixed(reduced, profile, target, layers, origin)
    return replace(space, parameters=_conditions_held(reduced))


def _kept(
    key: str, parameter: Parameter, profile: Profile, target: str, layers: list[Layer]
) -> Parameter | None:
    """The parameter with only the choices that run; None: there are none."""
    if key not in _PLAIN or not isinstance(parameter, CategoricalParameter):
        return parameter
    problems = [_problem(key, value, profile, layers) for value in parameter.choices]
    for value, problem in zip(parameter.choices, problems, strict=True):
        if problem is not None:
            logger.info(f"target {target}: {key} {value} leaves the search space: {problem}")
    good = [number for number, problem in enumerate(problems) if problem is None]
    if not good:
        return None
    changes: dict[str, Any] = {"choices": [parameter.choices[n] for n in good]}
    if parameter.weights is not None:
        changes["weights"] = [parameter.weights[n] for n in good]
    return parameter.model_copy(update=changes)


def _problem(key: str, value: Scalar, profile: Profile, layers: list[Layer]) -> str | None:
    """The first problem of a plain network with one key changed; None: it runs."""
    values = nest({**_PLAIN, "model.family": "filternet", key: value})
    try:
        config = compose([*layers, Layer("target", values)])
        return next(profile.problems(steps_of(config.model)), None)
    except ConfigError:
        return None  # invalid by itself; its combinations are checked before they are trained


def _check_fixed(
    parameters: Mapping[str, Parameter],
    profile: Profile,
    target: str,
    layers: list[Layer],
    origin: str,
) -> None:
    """Check each key that the space does not change by itself."""
    model = compose(layers).model
    for key in _PLAIN:
        name = key.removeprefix("model.")
        if key in parameters or not hasattr(model, name):
            continue
        held = getattr(model, name)
        for value in held if isinstance(held, list) else [held]:
            problem = _problem(key, value, profile, layers)
            if problem is not None:
                raise ConfigError(
                    f"{origin}: config.{key}: {value} does not run on target {target}: {problem}"
                )


def _conditions_held(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Remove values that are gone from conditions, and keys whose conditions can never hold."""
    found: dict[str, Parameter] = {}
    for key, parameter in parameters.items():
        when: dict[str, Any] = {}
        for other, allowed in parameter.when.items():
            values = allowed if isinstance(allowed, list) else [allowed]
            there = [v for v in values if other in found and found[other].contains(v)]
            when[other] = there if isinstance(allowed, list) or not there else there[0]
        if all(v not in ([],) for v in when.values()):
            found[key] = parameter.model_copy(update={"when": when})
    return found
