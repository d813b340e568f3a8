"""Search spaces: dotted configuration keys and the values to try, checked before anything runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import create_model

from clapp.config import (
    AFTERWARDS,
    ELSEWHERE,
    NO_EFFECT,
    Layer,
    Section,
    compose,
    defaults_of,
    flatten,
    nest,
    validate,
)
from clapp.errors import ConfigError
from clapp.models.families import known_families, section
from clapp.study.plan.files import find_space
from clapp.study.plan.parameters import KINDS, CategoricalParameter, Parameter, Scalar
from clapp.study.pruning.problem import Suggests
from clapp.system.files import read_mapping, shown
from clapp.system.suggest import hint, meant

RESERVED = {
    "train.stop_l2_loss": "a search never stops at success: every good network would tie there",
    "train.seed": "it is derived from the study's `seed` and the trial's number",
}
"""Keys that neither a study nor its search space may set, with the reason."""
FAMILY, LAYERS = "model.family", "model.num_layers"


@dataclass(frozen=True)
class Space:
    """A valid search space; each key comes after the keys it depends on."""

    origin: str
    parameters: Mapping[str, Parameter]
    most_layers: int = 1
    """The largest `model.num_layers` that a trial may have."""

    @property
    def families(self) -> list[Scalar]:
        """The families of networks it chooses among; empty: the study's configuration names one."""
        found = self.parameters.get(FAMILY)
        return list(found.samples().values()) if found is not None else []

    def over(self, layers: Iterable[Layer]) -> list[Layer]:
        """Layers of a study's configuration, over the defaults of the space's first family."""
        if not self.families:
            return list(layers)
        return [Layer(self.origin, nest({FAMILY: self.families[0]})), *layers]

    def suggest(self, trial: Suggests, base: Mapping[str, Any]) -> dict[str, Any]:
        """Draw all keys whose conditions hold; `base` maps all other dotted keys to values.

        A key with a value for each block is drawn as `key[0]`, `key[1]`, ... and becomes a list.
        If a condition holds for some blocks only, the others keep the value of `base`.
        """
        values = dict(base)
        drawn: dict[str, Any] = {}
        for key, parameter in self.parameters.items():
            applies = _applies(parameter, values)
            if not any(applies):
                continue
            if not parameter.per_layer:
                drawn[key] = values[key] = parameter.suggest(trial, key)
                continue
            entries = [
                parameter.suggest(trial, _entry(key, number))
                if here
                else of_block(base[key], number)
                for number, here in enumerate(applies)
            ]
            drawn[key] = values[key] = entries
        return drawn

    def represent(self, values: Mapping[str, Any]) -> dict[str, Scalar]:
        """The trial parameters that correspond to a configuration of dotted keys.

        Values outside of the space are left out, because Optuna would only warn and use them.
        """
        found: dict[str, Scalar] = {}
        for key, parameter in self.parameters.items():
            if key not in values:  # of another family
                continue
            for number, here in enumerate(_applies(parameter, values)):
                value = of_block(values[key], number) if parameter.per_layer else values[key]
                if here and parameter.contains(value):
                    found[_entry(key, number) if parameter.per_layer else key] = value
        return found

    def resuggest(self, trial: Suggests, names: Iterable[str]) -> None:
        """Suggest parameters by their names in trials, such as `key[0]`."""
        for name in names:
            self.parameters[name.partition("[")[0]].suggest(trial, name)

    def columns(self) -> dict[str, Parameter]:
        """Every name of a trial parameter, with its definition."""
        found: dict[str, Parameter] = {}
        for key, parameter in self.parameters.items():
            if not parameter.per_layer:
                found[key] = parameter
                continue
            found |= {_entry(key, number): parameter for number in range(self.most_layers)}
        return found

    def weights(self) -> dict[str, list[float]]:
        """Name of a trial parameter -> how often each of its choices is drawn at random."""
        return {
            name: parameter.weights
            for name, parameter in self.columns().items()
            if isinstance(parameter, CategoricalParameter) and parameter.weights
        }

    def document(self) -> dict[str, Any]:
        """The space as a mapping that a file could hold."""
        return _documents(self.parameters)

    def column_documents(self) -> dict[str, Any]:
        """The columns as mappings that a file could hold."""
        return _documents(self.columns())


def _documents(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    return {
        key: parameter.model_dump(exclude_defaults=True) for key, parameter in parameters.items()
    }


def load_space(
    spec: str | Mapping[str, Any],
    inline_origin: str,
    base: Iterable[Layer],
    study: Path | None = None,
) -> Space:
    """The search space that a study names or contains.

    Args:
        spec: name, path, or the mapping itself.
        inline_origin: name of the mapping in error messages.
        base: the study's configuration; every value of the space must be possible on top of it.
        study: the file of the study; a space is searched for beside it first.

    Raises:
        UserError: no such file.
        ConfigError: an unknown key, an impossible value, a circular condition.
    """
    if isinstance(spec, str):
        path = find_space(spec, study)
        origin, raw = str(path), read_mapping(path)
    else:
        origin, raw = inline_origin, dict(spec)
    if not raw:
        raise ConfigError(f"{origin}: the search space is empty; a mapping of keys is expected")
    layers = list(base)
    parameters = _ordered(origin, _parse(origin, raw, layers))
    layers = Space(origin, parameters).over(layers)
    space = Space(origin, parameters, _most_layers(parameters, layers))
    _check_values(space, layers)
    return space


def _most_layers(parameters: Mapping[str, Parameter], base: list[Layer]) -> int:
    if LAYERS not in parameters:
        return int(getattr(compose(base).model, "num_layers", 1))
    found = parameters[LAYERS].samples().values()
    return max((value for value in found if isinstance(value, int)), default=1)  # checked later


def _searchable(origin: str, raw: Mapping[str, Any], base: list[Layer]) -> list[str]:
    """All keys that may be searched, for the families that a space chooses among."""
    entry = raw.get(FAMILY)
    chosen = entry.get("choices") if isinstance(entry, Mapping) else None
    names = chosen if isinstance(chosen, list) else [compose(base).model.family]
    known = known_families()
    for number, name in enumerate(names):
        if name not in known:
            raise ConfigError(
                f"{origin}: {FAMILY}.choices[{number}]: {shown(name)} is not allowed; "
                f"{hint(str(name), known)}allowed: {', '.join(known)}"
            )
    keys = dict.fromkeys(key for name in names for key in flatten(defaults_of(name)))
    return [key for key in keys if refusal(key) is None]


def _per_layer() -> list[str]:
    """Keys that may have a value for each block."""
    sections = [section(name) for name in known_families()]
    return [f"model.{key}" for one in sections for key in one.PER_BLOCK]


def _parse(origin: str, raw: dict[str, Any], base: list[Layer]) -> dict[str, Parameter]:
    searchable = _searchable(origin, raw, base)
    for key, entry in raw.items():
        reason = refusal(str(key))
        if reason:
            raise ConfigError(f"{origin}: {key}: cannot be searched: {reason}")
        if key not in searchable:
            found = meant(str(key), searchable)
            advice = f"did you mean {found}?" if found else f"known: {', '.join(searchable)}"
            raise ConfigError(f"{origin}: {key}: no such configuration key; {advice}")
        _check_kind(origin, key, entry)
    # One pydantic model with a field for each key, so that errors contain the whole dotted path.
    fields: dict[str, Any] = {key: (KINDS[entry["type"]], ...) for key, entry in raw.items()}
    model = create_model("SearchSpace", __base__=Section, **fields)
    parsed = validate(model, raw, [Layer(origin, raw)])
    return {key: getattr(parsed, key) for key in raw}


def refusal(key: str) -> str | None:
    """Why a study's trials may not differ in `key`, or None."""
    if key.startswith(f"{AFTERWARDS}."):
        return "no trial reads it"
    if key.startswith("valid_data.") or key in ("train_data.target_filter", "parameter"):
        return "losses of different trials would not be comparable"
    if key == "train.batch_seed":
        return "the same network trained from another seed is no other network"
    return (RESERVED | NO_EFFECT | ELSEWHERE).get(key)


def _check_kind(origin: str, key: str, entry: Any) -> None:
    kinds = ", ".join(KINDS)
    if not isinstance(entry, dict):
        raise ConfigError(
            f"{origin}: {key}: {shown(entry)} is not allowed; allowed: a mapping of keys"
        )
    if "type" not in entry:
        raise ConfigError(f"{origin}: {key}.type: this key is required; allowed: {kinds}")
    if not isinstance(entry["type"], str) or entry["type"] not in KINDS:
        raise ConfigError(
            f"{origin}: {key}.type: {shown(entry['type'])} is not allowed; "
            f"{hint(str(entry['type']), KINDS)}allowed: {kinds}"
        )


def _ordered(origin: str, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    for key, parameter in parameters.items():
        for other, allowed in parameter.when.items():
            _check_condition(f"{origin}: {key}.when.{other}", other, allowed, parameters)
    graph = {key: list(parameter.when) for key, parameter in parameters.items()}
    for key, parameter in parameters.items():
        if parameter.per_layer and key not in _per_layer():
            raise ConfigError(
                f"{origin}: {key}.per_layer: true is not allowed; allowed for "
                f"{', '.join(_per_layer())}"
            )
        if parameter.per_layer and LAYERS in parameters:
            graph[key].append(LAYERS)
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise ConfigError(f"{origin}: circular `when` conditions: {circle}") from error
    return {key: parameters[key] for key in order}


def _check_condition(
    where: str, other: str, allowed: Any, parameters: Mapping[str, Parameter]
) -> None:
    if other not in parameters:
        raise ConfigError(
            f"{where}: not a key of this space; allowed: {', '.join(parameters) or 'none'}"
        )
    values = _as_list(allowed)
    if not values:
        raise ConfigError(f"{where}: an empty list of values can never hold")
    for value in values:
        if not parameters[other].contains(value):
            raise ConfigError(f"{where}: {value!r} is not a value that {other} can take")


def _check_values(space: Space, base: list[Layer]) -> None:
    for key, parameter in space.parameters.items():
        conditions = _conditions(key, space.parameters)
        anywhere = key == FAMILY or FAMILY in conditions or not key.startswith("model.")
        for family in [None] if anywhere else space.families or [None]:
            given = conditions if family is None else {FAMILY: family, **conditions}
            for label, value in parameter.samples().items():
                values = nest({**given, key: value})
                compose([*base, Layer(f"{space.origin}: {key}.{label}", values)])


def _conditions(key: str, parameters: Mapping[str, Parameter]) -> dict[str, Scalar]:
    """Values for which `key` applies: the first allowed value of each key it depends on."""
    found: dict[str, Scalar] = {}
    for other, allowed in parameters[key].when.items():
        found |= _conditions(other, parameters)
        found[other] = _as_list(allowed)[0]
    return found


def _applies(parameter: Parameter, values: Mapping[str, Any]) -> list[bool]:
    """Whether the conditions of a key hold: for each block if it has a value for each, else once.

    A key with one value applies if at least one block meets its conditions.
    """
    layers = int(values.get(LAYERS, 1))
    everywhere = [
        all(
            of_block(values[key], n) in _as_list(allowed) for key, allowed in parameter.when.items()
        )
        for n in range(layers)
    ]
    return everywhere if parameter.per_layer else [any(everywhere)]


def of_block(value: Any, number: int) -> Any:
    """The value of a key for one block: its value, or the block's entry of its list."""
    if isinstance(value, list):
        return value[number] if number < len(value) else value[-1]
    return value


def _entry(key: str, number: int) -> str:
    return f"{key}[{number}]"


def _as_list(allowed: Any) -> list[Any]:
    return allowed if isinstance(allowed, list) else [allowed]
