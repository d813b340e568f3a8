"""Layers of values, laid over each other and validated: the one path to a configuration.

Everything a user writes (a file, a study's `config:`, `--set`, a search-space value) is a `Layer`,
laid over the packaged defaults by `compose`, which names the layer at fault when the result is not
valid.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from clapp.config.explain import explain
from clapp.config.schema import Config, ModelConfig
from clapp.errors import ConfigError
from clapp.files import parse_yaml, read_mapping

M = TypeVar("M", bound=BaseModel)
DEFAULTS = "clapp/config/default.yaml"
"""What an error calls the packaged defaults."""


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


def override_layer(text: str) -> Layer:
    """The layer that `--set key=value` stands for.

    Raises:
        ConfigError: the text has no `=`, or its value is not YAML.
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {text}: key=value is expected")
    return Layer(f"--set {text}", nest({key: parse_yaml(value, f"--set {text}")}))


def compose(layers: Iterable[Layer]) -> Config:
    """Lay `layers` over the packaged defaults, in order, and validate the result.

    Raises:
        ConfigError: names the last layer that touches the key at fault.
    """
    layers = [Layer(DEFAULTS, defaults()), *layers]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.values)
    return validate(Config, merged, layers)


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """A validated model section: `values` laid over the packaged model.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    layers = [Layer("model", values)]
    return validate(ModelConfig, merge(defaults()["model"], values), layers)


def validate(model: type[M], values: Mapping[str, Any], layers: Iterable[Layer]) -> M:
    """`values` as `model`; its first error is reported with the layer it came from.

    Raises:
        ConfigError: see `compose`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, model, layers)) from error


@cache
def defaults() -> dict[str, Any]:
    """The packaged defaults as a mapping. Treat it as read-only."""
    return read_mapping(Path(__file__).with_name("default.yaml"))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: sections are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        # A filter given inline is one value; merging two of them would mix two filters.
        if isinstance(below, Mapping) and isinstance(value, Mapping) and key != "target_filter":
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested sections: {"a.b": 1} -> {"a": {"b": 1}}."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        place = nested
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        place[last] = value
    return nested


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; the reverse of `nest`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and key != "target_filter":
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
