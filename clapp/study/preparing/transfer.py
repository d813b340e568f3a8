"""Transfer: a study begins with the front of another one, its architectures and its weights.

`baselines: {from: results/sobel3}` names the other study: its results folder, its name, or
`URL/NAME` for one in a storage. Each member of its front becomes a trial that is tried first. Where
the sampler lets trials inherit weights, it starts from those of the member.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from clapp.config import Config, Layer, compose, flatten, identity, nest
from clapp.errors import ConfigError, UserError
from clapp.front.outcomes import Candidate, front_of
from clapp.front.record import TrialRecord, attributes, record_of
from clapp.study.plan.existing import load_existing
from clapp.study.plan.plan import Plan
from clapp.study.plan.space import of_block
from clapp.study.sampling.draw import Draw
from clapp.study.storage.place import study_file
from clapp.study.storage.storage import storage_errors
from clapp.system.files import shown

if TYPE_CHECKING:
    from optuna import Study

INHERITS = ("evolution",)
"""Samplers whose trials start from weights of others."""
_CHANNELS = ("input_channels", "output_channels")
"""Keys of the section `model` that follow from the filter."""


@dataclass(frozen=True)
class Transfer:
    """A member of another study's front, as a trial of this one.

    Attributes:
        parameters: what the trial is given.
        ancestor: see `TrialRecord.ancestor`; its `weights` are None where it starts without them.
    """

    parameters: dict[str, Any]
    ancestor: dict[str, Any]


def transfers(plan: Plan, results: Path) -> list[Transfer]:
    """The trials that `baselines.from` of a study stands for, those of few parameters first.

    Args:
        results: the folder that holds a folder for each study.

    Raises:
        UserError: there is no such study, or it has no front.
        ConfigError: a member of its front lies outside of this study's search space.
    """
    text = plan.file.origin
    if text is None:
        return []
    where = f"study {plan.name}: baselines.from"
    source = _source(text, results, where)
    with storage_errors(text):
        found, trials = front_of(source), source.get_trials(deepcopy=False)
    if not found:
        raise UserError(f"{where}: {shown(text)} has no finished trial, so it has no front")
    moved: dict[str, Transfer] = {}
    for candidate in found:
        record = record_of(trials[candidate.trial])
        try:
            transfer, config = _transfer(plan, source.study_name, candidate, record)
        except ConfigError as error:
            said = f"{where}: trial {candidate.trial} of {source.study_name}: {error}"
            if record.baseline is None:
                raise ConfigError(said) from error
            logger.info(f"{said}; it was a baseline there and is left out")
            continue
        moved.setdefault(identity(config), transfer)
    if not moved:
        raise UserError(f"{where}: no member of the front of {shown(text)} fits this study")
    return [*moved.values()]


def enqueue(study: "Study", found: list[Transfer]) -> None:
    """Let a study begin with these trials; those that it has already are not repeated."""
    there = [record_of(trial).ancestor for trial in study.get_trials(deepcopy=False)]
    known = {(one["study"], one["trial"]) for one in there if one is not None}
    for transfer in found:
        ancestor = transfer.ancestor
        if (ancestor["study"], ancestor["trial"]) not in known:
            study.enqueue_trial(transfer.parameters, user_attrs=attributes(ancestor=ancestor))


def _source(text: str, results: Path, where: str) -> "Study":
    """The study that a text names: a results folder, a name, or URL/NAME."""
    try:
        if "://" in text:
            url, _, name = text.rpartition("/")
            return load_existing(name, results, url)
        path = Path(text)
        if path.is_dir() and study_file(path) is None:
            raise UserError(f"{text} is a folder without a study")
        if path.is_dir():
            path = path.resolve()
            return load_existing(path.name, path.parent)
        if "/" in text:
            raise UserError(f"{text} does not exist; a study's results folder is expected")
        return load_existing(text, results)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _transfer(
    plan: Plan, study: str, candidate: Candidate, record: TrialRecord
) -> tuple[Transfer, Config]:
    """A member of a front as a trial of this study.

    Raises:
        ConfigError: it lies outside of the search space.
    """
    source = compose([Layer("its record", nest(dict(record.config or {})))], stored=True)
    wanted = _wanted(plan, source)
    parameters = plan.space.represent(wanted)
    draw = Draw(np.random.default_rng(0), parameters)
    changes = plan.space.suggest(draw, plan.base)
    for name in draw.distributions:
        if name not in parameters:
            key, _, block = name.partition("[")
            value = of_block(wanted.get(key), int(block[:-1])) if block else wanted.get(key)
            raise ConfigError(
                f"{name} {shown(value)} is outside of this study's search space, which has "
                f"{_said(plan.space.parameters[key].model_dump(exclude_defaults=True))}"
            )
    config = plan.config(changes, 0, None)
    _check_same(config, source)
    fits = config.model.output_channels == source.model.output_channels
    inherits = fits and plan.file.sampler in INHERITS
    ancestor = {
        "study": study,
        "trial": candidate.trial,
        "config": dict(record.config or {}),
        "weights": record.weights if inherits else None,
    }
    return Transfer(dict(parameters), ancestor), config


def _wanted(plan: Plan, source: Config) -> dict[str, Any]:
    """The study's configuration with the network of `source`, and what else is searched."""
    channels = [f"model.{key}" for key in _CHANNELS]
    taken = {
        key: value
        for key, value in flatten(source.model_dump()).items()
        if key not in channels and (key.startswith("model.") or key in plan.space.parameters)
    }
    return {**plan.base, **taken}


def _said(parameter: Mapping[str, Any]) -> str:
    if "choices" in parameter:
        return f"the choices {', '.join(map(shown, parameter['choices']))}"
    return f"{parameter['low']} to {parameter['high']}"


def _check_same(config: Config, source: Config) -> None:
    """See that what this study would train is the network of `source`.

    Raises:
        ConfigError: a key of it is fixed to another value here.
    """
    here, there = (one.model.canonical().model_dump() for one in (config, source))
    for key, value in there.items():
        if key not in _CHANNELS and here.get(key) != value:
            raise ConfigError(
                f"model.{key} {shown(value)} is not what this study has, {shown(here.get(key))}; "
                "add it to the search space"
            )
