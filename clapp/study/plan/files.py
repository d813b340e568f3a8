"""Study files, which describe a search, and how they are found."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    SerializeAsAny,
    field_validator,
)

from clapp.config import Count, Layer, Section, Seed, flatten, merge, one_of, validate
from clapp.errors import ConfigError, UserError
from clapp.filters.custom import load_plugin, look_in
from clapp.front.objectives import known_objective
from clapp.models.targets.profile import known_targets
from clapp.study.pruning.pruners import Front, Pruner
from clapp.study.pruning.pruners import parse as parse_pruner
from clapp.study.sampling.samplers import SAMPLERS
from clapp.system.files import data_dir, read_mapping, shown
from clapp.system.suggest import hint

SPACES = "search_spaces"
"""Folder of search spaces, of a user and of the package."""
TOP = {"filter": "train_data.target_filter", "parameter": "parameter"}
"""What a study may say at its top, and the key of a configuration that it stands for."""
FROM = "from"
"""Key of `baselines` that names another study."""
ObjectiveName = Annotated[str, BeforeValidator(known_objective)]

LONGEST = 36500 * 86400.0
"""The longest duration in seconds: a century."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+|\d+(?:\.\d+)?", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)", re.ASCII)


def seconds(value: Any) -> float:
    """A duration in seconds, from a number or text such as `90s`, `30m` or `1h30m`.

    Raises:
        ValueError: not a duration, or not above zero.
    """
    total: float = 0
    if isinstance(value, int | float) and not isinstance(value, bool):
        total = value
    elif isinstance(value, str) and _DURATION.fullmatch(value):
        total = sum(float(number) * _UNITS[unit or "s"] for number, unit in _PART.findall(value))
    if not 0 < total <= LONGEST:
        raise ValueError(
            f"{shown(value)} is not a duration; allowed: seconds above zero, or 90s, 30m, 1h30m, "
            "up to 36500d"
        )
    return float(total)


def _reference() -> dict[str, dict[str, Any] | str]:
    return {"reference": {}}


class Budget(Section):
    """When a study is finished: totals over all runs of it."""

    trials: Count = 60
    """Number of trained trials, to the end or stopped early; skipped and failed ones do not
    count."""
    timeout: Annotated[float, BeforeValidator(seconds)] | None = None
    """Total time of all runs; null: no limit."""


class StudyFile(Section):
    """A study as written; every key has a default."""

    plugins: list[Annotated[str, AfterValidator(load_plugin)]] = Field(default_factory=list)
    """Modules that register samplers, objectives and so on; imported before the rest is read."""
    description: str = ""
    """One line, for the report, the dashboard and `clapp studies`."""
    search_space: str | dict[str, Any] = "filternet"
    """Name of a packaged search space, path of a file, or the space itself."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Laid over the packaged defaults for every trial; nested or dotted keys."""
    objectives: Annotated[list[ObjectiveName], Field(min_length=1)] = Field(
        default_factory=lambda: ["loss", "params", "flops"]
    )
    """What is minimised; the loss is always among it."""
    limits: dict[ObjectiveName, PositiveFloat | None] = Field(default_factory=dict)
    """Largest values allowed; those known before a training are checked before it."""
    sampler: Annotated[str, one_of(SAMPLERS.names)] = "evolution"
    """What proposes the next network."""
    pruner: Annotated[SerializeAsAny[Pruner], BeforeValidator(parse_pruner)] = Front()
    """Its name, or a mapping of `name` and settings."""
    budget: Budget = Budget()
    max_retry: Annotated[int, Field(ge=0, lt=2**31)] = 2
    """How often a configuration is tried again after its worker was killed."""
    baselines: dict[str, dict[str, Any] | str] = Field(default_factory=_reference)
    """Named configurations tried first, each laid over `config`; `from`: a study whose front is."""
    target: Annotated[str, one_of(known_targets)] | None = None
    """The target on which networks must run; values that do not run there are removed from the
    space."""
    seed: Seed = 0
    """What all draws and trainings follow from."""

    @field_validator("objectives")
    @classmethod
    def _distinct_with_loss(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError(f"{value} names an objective twice")
        if "loss" not in value:
            raise ValueError(f"{value} lacks loss, without which nothing would be learnt")
        return value

    @field_validator("baselines", mode="before")
    @classmethod
    def _mappings(cls, value: Any) -> Any:
        for name, changes in value.items() if isinstance(value, dict) else ():
            if name == FROM and not (isinstance(changes, str) and changes):
                raise ValueError(
                    f"{name}: {shown(changes)} is not allowed; allowed: the results folder of a "
                    "study, its name, or URL/NAME of one in a storage"
                )
            if name != FROM and not isinstance(changes, dict):
                raise ValueError(
                    f"{name}: {shown(changes)} is not allowed; "
                    "allowed: a mapping of keys, {} for none"
                )
        return value

    @property
    def named_baselines(self) -> dict[str, dict[str, Any]]:
        """The baselines without `from`."""
        return {name: one for name, one in self.baselines.items() if isinstance(one, dict)}

    @property
    def origin(self) -> str | None:
        """The study whose front is tried first, as written; None: there is none."""
        found = self.baselines.get(FROM)
        return found if isinstance(found, str) else None


def find_file(name_or_path: str, folder: str, kind: str) -> Path:
    """The YAML file of a study or search space: a path, or a name in ./FOLDER or the package's.

    Raises:
        UserError: there is none; the message lists the known names.
    """
    if _is_path(name_or_path):
        path = Path(name_or_path)
        if not _is_file(path):
            raise UserError(f"{path}: no such {kind} file")
        return path
    folders = [Path(folder), data_dir(folder)]
    for place in folders:
        if _is_file(place / f"{name_or_path}.yaml"):
            return place / f"{name_or_path}.yaml"
    known = sorted({path.stem for place in folders for path in place.glob("*.yaml")})
    own = "; `clapp init` writes one of your own" if kind == "study" else ""
    raise UserError(
        f"no {kind} named {name_or_path!r}; {hint(name_or_path, known)}known: "
        f"{', '.join(known)}{own}"
    )


def _is_path(text: str) -> bool:
    return text.endswith((".yaml", ".yml")) or "/" in text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # such as a name of more than 255 bytes
        return False


def find_space(name_or_path: str, study: Path | None = None) -> Path:
    """The file of a search space: beside the study's file first, then as `find_file` says.

    Beside means in the same folder, in its subfolder `search_spaces`, or in a folder
    `search_spaces` next to it.

    Raises:
        UserError: see `find_file`.
    """
    if study is not None:
        here = study.parent
        name = name_or_path if _is_path(name_or_path) else f"{name_or_path}.yaml"
        places = [here]
        if not _is_path(name_or_path):
            places += [here / SPACES, here.parent / SPACES]
        for place in places:
            if _is_file(place / name) and not _is_study(place / name):
                return place / name
    return find_file(name_or_path, SPACES, "search space")


def known_spaces() -> list[Path]:
    """The files of all search spaces: of ./search_spaces, then of the package."""
    found: dict[str, Path] = {}
    for folder in (Path(SPACES), data_dir(SPACES)):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return [found[name] for name in sorted(found)]


def _is_study(path: Path) -> bool:
    """Whether a file has the keys of a study: `tiny` may be the name of a study and of a space."""
    try:
        return any(key in StudyFile.model_fields for key in read_mapping(path))
    except UserError:
        return False


def find_study(name_or_path: str) -> Path:
    """The file of a study; see `find_file`."""
    return find_file(name_or_path, "studies", "study")


def how_to_start(study: str) -> str:
    """Advice for a user who asks for results of a study that has none.

    Args:
        study: its name or the path of its file, which may not exist.
    """
    try:
        find_study(study)
    except UserError as error:
        return f"nor can it be started: {error}"
    return f"start it with `clapp-optimize --study {shlex.quote(study)}`"


def load_study(name_or_path: str, *overrides: Layer) -> StudyFile:
    """Read and validate a study file; `overrides` are laid over its values.

    Raises:
        UserError: no such study, or it cannot be read.
        ConfigError: an unknown, duplicate, mistyped or out-of-range key.
    """
    path = find_study(name_or_path)
    layers = [_with_top(Layer(str(path), read_mapping(path))), *overrides]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.values)
    if merged.get("plugins"):
        look_in(path.parent)
    return validate(StudyFile, merged, layers)


def _with_top(layer: Layer) -> Layer:
    """`filter: SPEC` at the top of a study as what it stands for, a key of its `config`; so `TOP`.

    Raises:
        ConfigError: it is written there too.
    """
    said = {key: value for key, value in layer.values.items() if key in TOP}
    values = {key: value for key, value in layer.values.items() if key not in TOP}
    config = values.get("config", {})
    if not said or not isinstance(config, dict):
        return layer
    for key in said:
        if TOP[key] in flatten(config):
            raise ConfigError(
                f"{layer.origin}: {key}: config.{TOP[key]} says it too; write it once"
            )
    moved = {TOP[key]: value for key, value in said.items()}
    return Layer(layer.origin, {**values, "config": {**config, **moved}})
