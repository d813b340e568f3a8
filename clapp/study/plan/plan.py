"""A plan: a study file with all its references resolved and checked, ready to run."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from clapp.config import (
    AFTERWARDS,
    ELSEWHERE,
    NO_EFFECT,
    Config,
    Layer,
    compose,
    flatten,
    merge,
    nest,
    override_layer,
    without_secrets,
)
from clapp.errors import ConfigError
from clapp.filters.custom import code_hash, functions_in, look_in
from clapp.study.plan.files import StudyFile, find_study, load_study
from clapp.study.plan.for_target import for_target
from clapp.study.plan.space import RESERVED, Space, load_space, refusal

# A trial must not end at a threshold of loss: all good networks would then have equal losses.
ENGINE = Layer("the study engine", {"train": {"stop_l2_loss": None}})


@dataclass(frozen=True)
class Plan:
    """A resolved and checked study."""

    name: str
    file: StudyFile
    layers: list[Layer]
    space: Space
    base: dict[str, Any]
    """The configuration under all trials, as dotted keys."""
    constant_loss: float | None = None
    """The loss of the best constant prediction, once a worker has computed it."""

    @property
    def objectives(self) -> list[str]:
        """Names of the objectives, in the order of the trials' values."""
        return self.file.objectives

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by objective."""
        return {name: limit for name, limit in self.file.limits.items() if limit is not None}

    @property
    def seed(self) -> int:
        """The seed from which the seeds of all draws and trainings are derived."""
        return self.file.seed

    def config(self, changes: Mapping[str, Any], seed: int, device: str | None) -> Config:
        """The configuration of one trial: `changes` are dotted keys laid over the study's.

        Raises:
            ConfigError: the combination is impossible.
        """
        layers = [*self.layers, Layer("trial", nest(changes)), Layer("seed", _train(seed=seed))]
        if device is not None:
            layers.append(Layer(f"--device {device}", _train(device=device)))
        # The study's own sources were compared when it was read.
        return compose(layers, compared="train_data" not in nest(changes))

    def baseline(self, name: str) -> dict[str, Any]:
        """The dotted keys in which a baseline differs from the study's configuration."""
        return _dotted(self.file.named_baselines[name], f"baselines.{name}")

    def baseline_parameters(self, name: str) -> dict[str, Any]:
        """The trial parameters of a baseline, as far as the search space can express it."""
        return self.space.represent({**self.base, **self.baseline(name)})

    def document(self) -> dict[str, Any]:
        """The resolved study file; `plan_from` reads it back in another process."""
        return self.file.model_dump(mode="json")

    def definition(self) -> dict[str, Any]:
        """The document without secrets, for the storage."""
        document = self.document()
        return document | {"config": nest(without_secrets(flatten(document["config"])))}

    def resolved(self) -> dict[str, Any]:
        """The packaged defaults and hashes of filter code behind the definition, for the storage.

        They show when another version of CLAPP or of a filter's code joins the study.
        """
        ignored = (*NO_EFFECT, *ELSEWHERE, *RESERVED)
        config = {
            key: value
            for key, value in self.base.items()
            if key not in ignored and not key.startswith(f"{AFTERWARDS}.")
        }
        functions = functions_in(self.base["train_data.target_filter"])
        resolved = {
            "config": config,
            "filter_code": {spec: code_hash(spec) for spec in functions},
            "editions": self._editions(),
        }
        return cast(dict[str, Any], json.loads(json.dumps(resolved)))  # as a storage returns it

    def _editions(self) -> dict[str, int]:
        """The editions of packaged pictures, by section of the configuration."""
        from clapp.images import edition

        config = self.config({}, seed=0, device=None)
        return {name: edition(getattr(config, name)) for name in ("train_data", "valid_data")}


def _train(**values: Any) -> dict[str, Any]:
    return {"train": values}


def make_plan(name_or_path: str, sets: Iterable[str] = (), overrides: Iterable[Layer] = ()) -> Plan:
    """Read and check a study with everything it names.

    Args:
        sets: `key=value` texts laid over its `config`.
        overrides: laid over the file itself, such as a budget given as an option.

    Raises:
        UserError: a file that does not exist or cannot be read.
        ConfigError: anything in them that cannot be run as written.
    """
    path = find_study(name_or_path)
    file = load_study(name_or_path, *overrides)
    if any(functions_in([file.config, list(sets)])):
        look_in(path.parent)
    where = f"{path}: config"
    layers = [Layer(where, nest(_dotted(file.config, where)))]
    layers += [override_layer(text) for text in sets]
    for layer in layers:
        _refuse_idle(layer)
    return _resolve(path.stem, file, str(path), layers, path)


def plan_from(name: str, document: Mapping[str, Any]) -> Plan:
    """The plan whose `document()` this is."""
    file = StudyFile.model_validate(document)
    origin = f"study {name}"
    return _resolve(name, file, origin, [Layer(f"{origin}: config", file.config)])


def _resolve(
    name: str, file: StudyFile, origin: str, layers: list[Layer], path: Path | None = None
) -> Plan:
    space = load_space(file.search_space, f"{origin}: search_space", [ENGINE, *layers], path)
    if file.target is not None:
        space = for_target(space, file.target, [ENGINE, *layers], origin)
    written: dict[str, Any] = {}
    for layer in layers:
        written = merge(written, layer.values)
    layers = [ENGINE, *space.over(layers)]
    base = flatten(compose(layers).model_dump())
    resolved = file.model_copy(update={"search_space": space.document(), "config": written})
    plan = Plan(name, resolved, layers, space, base)
    for baseline in file.named_baselines:
        _check_baseline(plan, origin, baseline)
    return plan


def _check_baseline(plan: Plan, origin: str, name: str) -> None:
    changes = _dotted(plan.file.named_baselines[name], f"{origin}: baselines.{name}")
    for key in changes:
        reason = refusal(key)
        if reason:
            raise ConfigError(f"{origin}: baselines.{name}.{key}: cannot be set here: {reason}")
    compose([*plan.layers, Layer(f"{origin}: baselines.{name}", nest(changes))])


def _refuse_idle(layer: Layer) -> None:
    """Refuse keys that the study sets itself, or that have no effect in a study."""
    reasons = RESERVED | NO_EFFECT
    for key, value in flatten(layer.values).items():
        harmless = key == "train.stop_l2_loss" and value is None
        if key in reasons and not harmless:
            raise ConfigError(f"{layer.origin}: {key}: cannot be set here: {reasons[key]}")


def _dotted(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Nested or dotted keys as dotted ones; the same key written both ways is refused."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        for dotted, inner in flatten({key: value}).items():
            if dotted in flat:
                raise ConfigError(f"{origin}: duplicate key {dotted!r}")
            flat[dotted] = inner
    return flat
