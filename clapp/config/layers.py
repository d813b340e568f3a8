"""A configuration is made from layers of values, each of which overrides the ones below.

Everything a user writes (a file, a study's `config:`, `--set`, a search-space value) is a `Layer`.
`compose` lays the layers over the packaged defaults and validates the result; an error names the
layer that holds the wrong value.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError, create_model

from clapp.config.explain import explain
from clapp.config.model import ModelConfig, section_of
from clapp.config.schema import COMPARED, STORED, Config
from clapp.errors import ConfigError
from clapp.system.files import read_mapping, shown
from clapp.system.strict_yaml import ends_in_comment, parse_yaml

M = TypeVar("M", bound=BaseModel)
DEEPEST = 8
"""How deep sections may be nested. A configuration has two levels, and the settings of a filter."""
WHOLE = ("target_filter", "loss_type", "parameter")
"""Keys whose mappings are one value: merging two filters or two sums of losses would mix them."""
DEFAULTS = "clapp/config/default.yaml"
"""Name of the packaged defaults in error messages."""


class Layer(NamedTuple):
    """A mapping laid over the defaults, and what to call it in an error."""

    origin: str
    values: Mapping[str, Any]


def load_config(
    path_or_mapping: str | Path | Mapping[str, Any] | None = None, overrides: Iterable[str] = ()
) -> Config:
    """The packaged defaults, then a file or mapping, then `key=value` overrides.

    Args:
        path_or_mapping: a YAML file with any of the keys of `default.yaml`, or such a mapping.
        overrides: dotted keys with YAML values, such as `train.learning_rate=1e-3`.

    Raises:
        ConfigError: an unknown, duplicate, mistyped, out-of-range or contradictory key; the message
            names file, dotted path, value and what is allowed.
        UserError: the file cannot be read.
    """
    layers = []
    if isinstance(path_or_mapping, Mapping):
        layers.append(Layer("configuration", path_or_mapping))
    elif path_or_mapping is not None:
        path = Path(path_or_mapping)
        layers.append(Layer(str(path), read_mapping(path)))
    layers.extend(override_layer(text) for text in overrides)
    return compose(layers)


def refuse_repetitions(config: Config) -> None:
    """Refuse `num_runs` and `num_parallel_runs` where one network is trained.

    Configuration files of the reference program contain both keys with their defaults; these are
    accepted.

    Raises:
        ConfigError: one of them has another value.
    """
    for key in ("num_runs", "num_parallel_runs"):
        value, taken = getattr(config, key), defaults()[key]
        if value not in (1, taken):
            raise ConfigError(
                f"{key}: {value} has no effect: one network is trained; `clapp repeat` trains one "
                "from each of several seeds"
            )


def override_layer(text: str) -> Layer:
    """The layer that `--set key=value` stands for.

    Raises:
        ConfigError: the text has no `=`, or its value is not YAML.
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {text}: key=value is expected")
    origin = f"--set {text}"
    parsed = parse_yaml(value, origin)
    if ends_in_comment(value):
        if not (parsed is None or isinstance(parsed, str)):
            raise ConfigError(f"{origin}: a comment is not allowed here")
        parsed = value.strip()  # such as the path of a folder called `set #2`
    return Layer(origin, nest({key: parsed}, origin))


def load_stored(path: Path) -> Config:
    """Read the configuration that a training wrote, even where the code of its filter is missing.

    Raises:
        UserError: the file cannot be read.
        ConfigError: see `load_config`.
    """
    return compose([Layer(str(path), read_mapping(path))], stored=True)


def compose(layers: Iterable[Layer], stored: bool = False, compared: bool = False) -> Config:
    """Lay `layers` over the packaged defaults, in order, and validate the result.

    Args:
        stored: the values are those of a training that took place, see `load_stored`.
        compared: the test set was found to share no picture with the others.

    Raises:
        ConfigError: names the last layer that touches the key at fault.
    """
    written = list(layers)
    merged = defaults()
    for layer in written:
        merged = merge(_of_same_family(merged, layer), layer.values)
    merged = dict(merged)  # the defaults are shared
    _fit_defaults(merged, written)
    _fit_filter(merged, written)
    if not stored:
        _fit_channels(merged, written)
    context = {STORED: stored, COMPARED: compared}
    return validate(Config, merged, [Layer(DEFAULTS, defaults()), *written], context)


def _of_same_family(below: dict[str, Any], layer: Layer) -> dict[str, Any]:
    """The values below `layer`. If it names another family of networks: that family's defaults."""
    over, model = layer.values.get("model"), below.get("model")
    if not (isinstance(over, Mapping) and isinstance(model, Mapping)):
        return below
    if over.get("family", model["family"]) == model["family"]:
        return below
    kept = {key: model[key] for key in ("input_channels", "output_channels") if key in model}
    return below | {"model": defaults_of(over["family"])["model"] | kept}


FITTED = {
    "train.min_iterations": ("train.max_iterations", 1),
    "train.min_lr": ("train.learning_rate", 0),
    "train_data.min_buffer": ("train_data.max_buffer", 1),
    "valid_data.min_buffer": ("valid_data.max_buffer", 1),
    "train_data.crop_size": ("train_data.resize_base", 8),
    "valid_data.crop_size": ("valid_data.resize_base", 8),
}
"""Key -> the key that limits its default, and the least value that the default may get.

A user who lowers `max_iterations` need not lower `min_iterations` as well.
"""


def _fit_defaults(merged: dict[str, Any], written: list[Layer]) -> None:
    """Lower the defaults of `FITTED` where needed; values that a user wrote stay."""
    for key, (bound, least) in FITTED.items():
        (section, lower), upper = key.split("."), bound.rpartition(".")[2]
        values = merged.get(section)
        if not isinstance(values, dict) or any(_writes(layer, section, lower) for layer in written):
            continue
        most = values.get(upper)
        if isinstance(most, bool) or not isinstance(most, int | float):
            continue
        if least <= most < values[lower]:
            merged[section] = {**values, lower: most}


def _fit_filter(merged: dict[str, Any], written: list[Layer]) -> None:
    """Let pairs of pictures be learned from themselves, unless somebody wrote a filter."""
    data = merged.get("train_data")
    if not isinstance(data, dict) or not str(data.get("name")).startswith("pairs:"):
        return
    if not any(_writes(layer, "train_data", "target_filter") for layer in written):
        merged["train_data"] = {**data, "target_filter": "paired"}
    valid, test = merged.get("valid_data"), merged.get("test_data")
    if not isinstance(valid, dict) or not isinstance(test, dict):
        return
    named = any(_writes(layer, "test_data", "name") for layer in written)
    if not named and str(valid.get("name")).startswith("pairs:"):
        merged["test_data"] = {**test, "name": valid["name"], "split": "test"}


def _fit_channels(merged: dict[str, Any], written: list[Layer]) -> None:
    """Let the network have the inputs and outputs of the filter, unless somebody wrote how many."""
    data, model = merged.get("train_data"), merged.get("model")
    if not isinstance(data, dict) or not isinstance(model, dict):
        return
    settings = merged.get("parameter")
    if isinstance(settings, dict) and not any(
        _writes(layer, "model", "input_channels") for layer in written
    ):
        model = merged["model"] = {**model, "input_channels": 3 + len(settings)}
    if any(_writes(layer, "model", "output_channels") for layer in written):
        return
    spec = data.get("target_filter")
    if spec is None or spec == defaults()["train_data"]["target_filter"]:
        return
    from clapp.filters.library import output_channels  # cv2 is not needed for the defaults

    channels = output_channels(spec)
    if channels is not None and channels != model["output_channels"]:
        merged["model"] = {**model, "output_channels": channels}


def _writes(layer: Layer, section: str, key: str) -> bool:
    values = layer.values.get(section)
    return isinstance(values, Mapping) and key in values


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """A validated model section: `values` laid over the packaged model.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    base = defaults_of(values.get("family", defaults()["model"]["family"]))["model"]
    merged = merge(base, values)
    return validate(section_of(merged), merged, [Layer("model", values)])


def validate(
    model: type[M],
    values: Mapping[str, Any],
    layers: Iterable[Layer],
    context: Mapping[str, Any] | None = None,
) -> M:
    """Make a `model` of `values`; an error names the layer that holds the wrong value.

    Raises:
        ConfigError: see `compose`.
    """
    try:
        return model.model_validate(values, context=context)
    except ValidationError as error:
        raise ConfigError(explain(error, _explained(model, values), layers)) from error


def _explained(model: type[BaseModel], values: Mapping[str, Any]) -> type[BaseModel]:
    """`model` with the section `model` of the family in `values`, so that errors list its keys."""
    if model is not Config:
        return model
    return create_model("Config", __base__=Config, model=(section_of(values.get("model")), ...))


@cache
def defaults() -> dict[str, Any]:
    """The packaged defaults as a mapping. Treat it as read-only."""
    return read_mapping(Path(__file__).with_name("default.yaml"))


def defaults_of(family: Any) -> dict[str, Any]:
    """The packaged defaults with the section `model` of a family; of filternet if it is unknown."""
    model = defaults()["model"]
    section = section_of({"family": family})
    values = {}
    for key, field in section.model_fields.items():
        if not field.is_required():
            values[key] = field.get_default(call_default_factory=True)
        elif key in model:
            values[key] = model[key]
    return defaults() | {"model": values | {"family": family}}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: sections are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        if not isinstance(key, str):
            raise ConfigError(f"the key {shown(key)} is not text")
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and key not in WHOLE:
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def nest(flat: Mapping[str, Any], origin: str = "") -> dict[str, Any]:
    """Dotted keys as nested sections: {"a.b": 1} -> {"a": {"b": 1}}; `origin` begins an error.

    Raises:
        ConfigError: a key is both a value and a section, or deeper than any section lies.
    """
    nested: dict[str, Any] = {}
    start = f"{origin}: " if origin else ""
    for key, value in flat.items():
        *sections, last = key.split(".")
        if len(sections) > DEEPEST:
            raise ConfigError(f"{start}{key[:40]}...: no such key; sections lie at most two deep")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{start}{key}: {section} is a value too; write it once")
        if last in place:
            raise ConfigError(f"{start}{key}: this key is written twice")
        place[last] = value
    return nested


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; the reverse of `nest`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and key not in WHOLE:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
