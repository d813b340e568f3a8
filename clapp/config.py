"""The configuration of one training: typed sections, and the one path that validates them.

Values live in `default.yaml`; the models here hold types, bounds and cross-field rules. Everything
a user writes (a file, a study's `config:`, `--set`, a search-space value) is a `Layer`, laid over
the defaults by `compose`, which names the layer at fault when the result is not valid.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from clapp.errors import ConfigError
from clapp.explain import explain
from clapp.files import PACKAGE, parse_yaml, read_mapping

Activation = Literal[
    "relu",
    "leaky_relu",
    "squared_relu",
    "gelu",
    "tanh",
    "sigmoid",
    "swish",
    "none",
    "abs",
    "square",
]
FilterSpec = str | dict[str, Any]
NonNegative = Annotated[float, Field(ge=0)]
M = TypeVar("M", bound=BaseModel)


class Section(BaseModel):
    """A section of a file: no unknown keys, no coercion, no change after construction."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """Where pictures come from and how they are cut. Sizes in pixels."""

    name: Annotated[str, Field(min_length=1)]
    split: Annotated[str, Field(min_length=1)]
    min_buffer: PositiveInt
    max_buffer: PositiveInt
    resize_base: PositiveInt
    buffer_delay: NonNegative | None
    crop_size: Annotated[int, Field(ge=8)]
    image_key: str
    target_filter: FilterSpec | None
    subset: str | None
    streaming: bool
    token: str | None
    shuffle_buffer: PositiveInt
    seed: Annotated[int, Field(ge=0)]

    @field_validator("target_filter")
    @classmethod
    def _known_filter(cls, value: FilterSpec | None) -> FilterSpec | None:
        if value is not None:
            from clapp.filters import resolve  # cv2 is not needed to print --help

            try:
                resolve(value)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.crop_size > self.resize_base:
            raise ValueError(
                f"crop_size {self.crop_size} does not fit into resize_base {self.resize_base}"
            )
        if self.min_buffer > self.max_buffer:
            raise ValueError(f"min_buffer {self.min_buffer} exceeds max_buffer {self.max_buffer}")
        return self


class ValidConfig(DataConfig):
    """The fixed validation set."""

    num_images: PositiveInt


class ModelConfig(Section):
    """The architecture of a FilterNet; every key is explained in `default.yaml`."""

    capacity: Annotated[int, Field(ge=1, le=1024)]
    num_layers: Annotated[int, Field(ge=1, le=64)]
    input_channels: Annotated[int, Field(ge=1, le=1024)]
    output_channels: Annotated[int, Field(ge=1, le=1024)]
    kernel_size: Literal[1, 3, 5, 7]
    activation: Activation
    flip_conv_norm: bool
    rezero: bool
    reskip: bool
    norm: Literal["group", "none"]
    padding: Literal["zero_after", "zero", "reflect", "replicate"]
    stem: Annotated[int, Field(ge=1, le=1024)] | None
    output_activation: Literal["none", "relu", "sqrt"]
    output_norm: Literal["none", "max"]
    separable: bool
    shared_weights: bool
    downsample: Literal[1, 2]

    @property
    def stem_channels(self) -> int:
        """Channels after the first 1x1 convolution."""
        return self.capacity if self.stem is None else self.stem

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.shared_weights and self.num_layers > 1 and self.stem_channels != self.capacity:
            raise ValueError(
                f"shared_weights applies one block {self.num_layers} times, so stem "
                f"({self.stem_channels}) must equal capacity ({self.capacity}) or be null"
            )
        return self

    def canonical(self) -> "ModelConfig":
        """The same network with every key that has no effect on it set to one fixed value.

        Two configurations describe the same function family exactly when these are equal.
        """
        changes: dict[str, Any] = {"stem": self.stem_channels}
        if self.norm == "none":
            changes["flip_conv_norm"] = True
        if self.num_layers == 1:
            changes["shared_weights"] = False
            if self.stem_channels != self.capacity:  # its only block has no skip
                changes |= {"rezero": False, "reskip": False}
        if self.kernel_size == 1:
            changes["padding"] = "zero"
        return self.model_copy(update=changes)


class TrainConfig(Section):
    """How a network is trained. Times in seconds, lengths in optimiser steps."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
    batch_size: PositiveInt
    num_workers: Annotated[int, Field(ge=0, le=64)]
    min_iterations: Annotated[int, Field(ge=0)]
    max_iterations: PositiveInt
    stop_l2_loss: NonNegative | None
    stop_loss_ema: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: PositiveFloat
    output_dir: str
    output_log_interval: PositiveInt
    validation_interval: PositiveInt
    validation_images: PositiveInt | None
    min_lr: NonNegative
    lr_cycle: PositiveInt
    loss_type: Literal["l1", "l2", "lc", "all"]
    patience: PositiveInt | None
    max_seconds: PositiveFloat | None
    seed: Annotated[int, Field(ge=0)]
    batch_seed: Annotated[int, Field(ge=0)] | None
    precision: Literal["float32", "bf16"]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_iterations > self.max_iterations:
            raise ValueError(
                f"min_iterations {self.min_iterations} exceeds max_iterations {self.max_iterations}"
            )
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr {self.min_lr} exceeds learning_rate {self.learning_rate}")
        return self


class Config(Section):
    """Everything one training depends on."""

    num_runs: PositiveInt
    num_resolutions: Annotated[int, Field(ge=1, le=8)]
    num_parallel_runs: PositiveInt
    experiment_name: str | None
    train_data: DataConfig
    valid_data: ValidConfig
    model: ModelConfig
    train: TrainConfig

    def with_train(self, **changes: Any) -> Self:
        """This configuration with other values in `train`, which are not checked again."""
        return self.model_copy(update={"train": self.train.model_copy(update=changes)})

    @property
    def target_filter(self) -> FilterSpec:
        """The filter the network learns."""
        return cast(FilterSpec, self.train_data.target_filter)  # _consistent refuses null

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        train, valid = self.train_data, self.valid_data
        if train.target_filter is None:
            raise ValueError("train_data.target_filter must name a filter")
        if valid.target_filter not in (None, train.target_filter):
            raise ValueError(
                f"valid_data.target_filter {valid.target_filter!r} differs from "
                f"train_data.target_filter {train.target_filter!r}; null takes it from there"
            )
        shared = _shared(train, valid)
        if shared is not None:
            raise ValueError(
                f"train_data and valid_data share pictures: {shared}, split {valid.split}"
            )
        if self.train.batch_size % 2 ** (self.num_resolutions - 1):
            raise ValueError(
                f"train.batch_size {self.train.batch_size} cannot be halved for "
                f"{self.num_resolutions} resolutions"
            )
        return self


def _shared(train: DataConfig, valid: DataConfig) -> str | None:
    """A source whose pictures two sections have in common, so that one would test the other."""
    for name in set(train.name.split("+")) & set(valid.name.split("+")):
        if name == "synthetic":  # drawn from a seed, without splits
            same = train.seed == valid.seed
        else:
            same = (train.split, train.subset) == (valid.split, valid.subset)
            # A folder's `all` holds its other splits.
            same |= name.startswith("folder:") and "all" in (train.split, valid.split)
        if same:
            return name
    return None


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
    layers = [Layer("clapp/default.yaml", defaults()), *layers]
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
    return read_mapping(PACKAGE / "default.yaml")


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
