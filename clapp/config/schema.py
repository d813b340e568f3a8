"""The sections of a configuration: types, bounds and cross-field rules.

Default values live in `default.yaml`, which explains every key.
"""

import re
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from clapp.config.choices import one_of, registered
from clapp.config.model import ModelConfig, of_family
from clapp.config.section import NonNegative, Section
from clapp.errors import ConfigError
from clapp.system.files import shown

if TYPE_CHECKING:
    from clapp.filters.learned.settings import Setting

FilterSpec = str | dict[str, Any] | list[Any]
LossSpec = str | dict[str, Any]
Count = Annotated[int, Field(ge=1, lt=2**31)]
"""A number of things, within what NumPy, torch and databases can store."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Side = Annotated[int, Field(ge=8, le=2**15)]
"""A side of a picture in pixels; OpenCV accepts less than 2^15."""
STORED = "stored"
"""Key of the validation context: true where a finished training wrote the configuration.

Its filter may be a function that is not on this machine, and its test set newer than itself.
"""
COMPARED = "compared"
"""Key of the validation context that says: the sources of pictures were compared before.

Trials of a study differ in their networks, and the test set is to cost them nothing.
"""
_OPTIMISERS = "clapp.training.optimisers.registry"
_LOSSES = "clapp.training.losses"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


class DataConfig(Section):
    """Where pictures come from and how they are cut. Sizes in pixels."""

    name: Annotated[str, Field(min_length=1)]
    split: Annotated[str, Field(min_length=1)]
    min_buffer: Count
    max_buffer: Count
    resize_base: Side
    buffer_delay: NonNegative | None
    crop_size: Side
    image_key: str
    target_filter: FilterSpec | None
    subset: str | None
    streaming: bool
    token: str | None
    shuffle_buffer: Count
    seed: Seed

    @field_validator("target_filter")
    @classmethod
    def _known_filter(cls, value: FilterSpec | None, info: ValidationInfo) -> FilterSpec | None:
        if value is not None and not (info.context or {}).get(STORED):
            from clapp.filters.library import resolve  # cv2 is not needed to print --help

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

    num_images: Count


class HeldBackConfig(Section):
    """Where the pictures come from that no training and no search sees.

    Sizes that are None are those of the validation set.
    """

    name: Annotated[str, Field(min_length=1)]
    split: Annotated[str, Field(min_length=1)]
    num_images: Count
    resize_base: Side | None
    crop_size: Side | None
    image_key: str
    subset: str | None
    streaming: bool
    token: str | None
    seed: Seed


class TrainConfig(Section):
    """How a network is trained. Times in seconds, lengths in optimiser steps."""

    device: str
    batch_size: Count
    num_workers: Annotated[int, Field(ge=0, le=64)]
    min_iterations: Annotated[int, Field(ge=0, lt=2**31)]
    max_iterations: Count
    stop_l2_loss: NonNegative | None
    stop_loss_ema: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: PositiveFloat
    output_dir: str
    output_log_interval: Count
    validation_interval: Count
    validation_images: Count | None
    min_lr: NonNegative
    lr_cycle: Count
    loss_type: LossSpec
    patience: Count | None
    max_seconds: PositiveFloat | None
    seed: Seed
    batch_seed: Seed | None
    precision: Literal["float32", "bf16"]
    optimizer: Annotated[
        str, one_of(registered("clapp.training.optimisers.registry", "known_optimisers"))
    ]
    starts: Annotated[int, Field(ge=1, le=64)]
    schedule: Annotated[str, one_of(registered("clapp.training.schedule", "known_schedules"))]
    weight_average: Annotated[float, Field(gt=0, lt=1)] | None
    clip_gradient: PositiveFloat | None
    reparam: Literal["none", "parallel", "expanded"]

    @field_validator("loss_type")
    @classmethod
    def _known_loss(cls, value: LossSpec) -> LossSpec:
        # The losses import the configuration; here their names are only checked.
        found: LossSpec = import_module(_LOSSES).checked_loss(value)
        return found

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            hint = "did you mean cuda? " if value.lower() in ("gpu", "nvidia") else ""
            raise ValueError(
                f"{value!r} is not allowed; {hint}allowed: auto, cpu, mps, cuda, or cuda:N "
                "for GPU number N"
            )
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_iterations > self.max_iterations:
            raise ValueError(
                f"min_iterations {self.min_iterations} exceeds max_iterations {self.max_iterations}"
            )
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr {self.min_lr} exceeds learning_rate {self.learning_rate}")
        return self

    @model_validator(mode="after")
    def _minimised(self) -> Self:
        """Raise ValueError for losses and settings that Levenberg-Marquardt cannot use."""
        if self.optimizer != "lm":
            return self
        others = import_module(_LOSSES).not_residual(self.loss_type)
        if others:
            raise ValueError(
                f"optimizer lm: not with the loss {', '.join(others)}, which is no sum over the "
                "errors of single pixels; allowed: adam, or auto, which takes it"
            )
        if self.reparam != "none":
            raise ValueError(
                f"optimizer lm: it solves for the kernels themselves, not with reparam "
                f"{self.reparam}; allowed: adam, or reparam none"
            )
        if self.clip_gradient is not None:
            raise ValueError(
                "optimizer lm: it follows no gradient that clip_gradient could clip; allowed: "
                "adam, or clip_gradient null"
            )
        return self


class Config(Section):
    """Everything one training depends on."""

    num_runs: Count
    num_resolutions: Annotated[int, Field(ge=1, le=8)]
    num_parallel_runs: Count | None
    experiment_name: str | None
    parameter: dict[str, list[float]] | None
    train_data: DataConfig
    valid_data: ValidConfig
    test_data: HeldBackConfig
    model: Annotated[SerializeAsAny[ModelConfig], BeforeValidator(of_family)]
    train: TrainConfig

    @field_validator("parameter", mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        if value is None or not isinstance(value, dict):
            return value
        for name, ends in value.items():
            pair = isinstance(ends, list | tuple) and len(ends) == 2
            numbers = pair and all(type(end) in (int, float) for end in ends)
            if not numbers or not isinstance(name, str):
                raise ValueError(
                    f"{name}: {shown(ends)} is not allowed; allowed: two numbers, such as [0.5, 3]"
                )
        return {name: [float(end) for end in ends] for name, ends in value.items()}

    def with_train(self, **changes: Any) -> Self:
        """A copy with other values in `train`, which are not validated."""
        return self.model_copy(update={"train": self.train.model_copy(update=changes)})

    @property
    def test_set(self) -> ValidConfig:
        """The test set as a validation set is described: same sizes unless it has its own."""
        own = {k: v for k, v in self.test_data.model_dump().items() if v is not None}
        own["subset"], own["token"] = self.test_data.subset, self.test_data.token
        return self.valid_data.model_copy(update=own)

    @property
    def target_filter(self) -> FilterSpec:
        """The filter the network learns."""
        return cast(FilterSpec, self.train_data.target_filter)  # _consistent refuses null

    @property
    def settings(self) -> "tuple[Setting, ...]":
        """Parameters of the filter that are inputs of the network.

        Where the code of the filter is missing, as of a model from elsewhere, any number counts.
        """
        from clapp.filters.learned.settings import Setting, settings_of

        try:
            return settings_of(self.target_filter, self.parameter)
        except ConfigError:
            ranges = (self.parameter or {}).items()
            return tuple(Setting(name, low, high) for name, (low, high) in ranges)

    @model_validator(mode="after")
    def _adjustable(self, info: ValidationInfo) -> Self:
        spec = self.train_data.target_filter
        if not (info.context or {}).get(STORED) and spec is not None:
            from clapp.filters.learned.settings import settings_of

            try:
                settings_of(spec, self.parameter)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _trainable(self, info: ValidationInfo) -> Self:
        model, spec = self.model, self.train_data.target_filter
        if (info.context or {}).get(STORED) or spec is None:
            return self
        given = 3 + len(self.parameter or {})
        if model.input_channels != given:
            more = "" if given == 3 else f", and {given - 3} of `parameter`"
            raise ValueError(
                f"model.input_channels {model.input_channels} is not allowed; allowed: {given}, as "
                f"filters take colour pictures{more}"
            )
        from clapp.filters.library import filter_name, output_channels

        wanted = output_channels(spec) or model.output_channels
        if model.output_channels != wanted or wanted not in (1, 3):
            what = f"{wanted} channel{'s' * (wanted != 1)}" if wanted in (1, 3) else "1 or 3"
            raise ValueError(
                f"model.output_channels {model.output_channels} is not allowed; the filter "
                f"{filter_name(spec)} returns {what}"
            )
        return self

    def _check_pairs(self) -> None:
        """See that `paired` and pairs of pictures come together."""
        from clapp.filters.learned.paired import PAIRED, is_paired

        pairs_named = import_module("clapp.images").pairs_named
        learned = is_paired(self.target_filter)
        sections = {
            "train_data": self.train_data,
            "valid_data": self.valid_data,
            "test_data": self.test_set,
        }
        for key, section in sections.items():
            if pairs_named(section) and not learned:
                raise ValueError(
                    f"{key}.name {section.name} holds targets of its own; allowed: "
                    f"train_data.target_filter {PAIRED}"
                )
            if learned and not pairs_named(section):
                raise ValueError(
                    f"{key}.name {section.name} holds no targets; with "
                    f"train_data.target_filter {PAIRED} allowed: pairs:INPUT,TARGET"
                )
        if learned and self.num_resolutions > 1:
            raise ValueError(
                f"num_resolutions {self.num_resolutions} is not allowed; allowed: 1, as pairs of "
                "pictures are not resized"
            )

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        train, valid = self.train_data, self.valid_data
        if train.target_filter is None:
            raise ValueError("train_data.target_filter must name a filter")
        if valid.target_filter not in (None, train.target_filter):
            raise ValueError(
                f"valid_data.target_filter {valid.target_filter!r} differs from "
                f"train_data.target_filter {train.target_filter!r}; null takes it from there"
            )
        self._check_pairs()
        self._refuse_shared("train_data", "valid_data")
        test = self.test_set
        if test.crop_size > test.resize_base:
            raise ValueError(
                f"test_data: crop_size {test.crop_size} does not fit into resize_base "
                f"{test.resize_base}; null takes that of valid_data"
            )
        context = info.context or {}
        if not (context.get(STORED) or context.get(COMPARED)):
            self._refuse_shared("train_data", "test_data")
            self._refuse_shared("valid_data", "test_data")
        if self.train.batch_size % 2 ** (self.num_resolutions - 1):
            raise ValueError(
                f"train.batch_size {self.train.batch_size} cannot be halved for "
                f"{self.num_resolutions} resolutions"
            )
        return self

    def _refuse_shared(self, one: str, other: str) -> None:
        # The sources lie above the configuration, which only asks whether they share pictures.
        sections = [
            self.test_set if name == "test_data" else getattr(self, name) for name in (one, other)
        ]
        shared = import_module("clapp.images").shared_pictures(*sections)
        if shared is not None:
            splits = " and ".join(dict.fromkeys(section.split for section in sections))
            raise ValueError(f"{one} and {other} share pictures: {shared}, split {splits}")
