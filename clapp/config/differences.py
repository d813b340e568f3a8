"""In which keys a configuration differs from the packaged defaults."""

from collections.abc import Mapping
from typing import Any

from clapp.config.layers import defaults, defaults_of, flatten
from clapp.config.schema import Config


def without_secrets(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted configuration keys without access tokens."""
    return {key: value for key, value in flat.items() if not key.endswith(".token")}


def differences(config: Config) -> dict[str, Any]:
    """The dotted keys in which a configuration differs from the packaged defaults.

    A network of another family is compared with the defaults of that family; the key `model.family`
    is then one of the differences.
    """
    packaged = flatten(defaults_of(config.model.family))
    packaged["model.family"] = defaults()["model"]["family"]
    flat = without_secrets(flatten(config.model_dump()))
    return {key: value for key, value in flat.items() if value != packaged.get(key)}
