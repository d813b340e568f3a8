"""The section `model` of a FilterNet: a network block by block.

A key of a block takes one value, which holds for every block, or a list with one entry a block.
"""

import re
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from clapp.config.choices import one_of, registered
from clapp.config.model import ModelConfig, Width

T = TypeVar("T")
Activation = Annotated[str, one_of(registered("clapp.models.activations", "known_activations"))]
Norm = Literal["group", "none"]
SIDES = (1, 3, 5, 7)
_KERNEL = re.compile(r"([1357])x([1357])")


def parse_kernel(value: Any) -> Any:
    """A kernel size as a configuration holds it: 3 for 3x3, text such as "1x5" for the others.

    Raises:
        ValueError: not a kernel size.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value in SIDES:
        return value
    match = _KERNEL.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"{value!r} is not allowed; allowed: 1, 3, 5, 7, or height x width such as 1x5"
        )
    height, width = match.groups()
    return int(height) if height == width else value


Kernel = Annotated[int | str, BeforeValidator(parse_kernel)]


class BlockShape(NamedTuple):
    """One block: `channels` in, `width` out, and what lies between."""

    channels: int
    width: int
    kernel: tuple[int, int]
    activation: str
    norm: str
    norm_first: bool
    rezero: bool
    reskip: bool
    separable: bool
    depthwise: bool
    dilation: int

    @property
    def has_skip(self) -> bool:
        """Whether the input is added to the output: wanted, and with equal numbers of channels."""
        return self.channels == self.width and (self.rezero or self.reskip)

    @property
    def border(self) -> tuple[int, int]:
        """Pixels (rows, columns) that the convolution reads above and left of each pixel."""
        height, width = self.kernel
        return height // 2 * self.dilation, width // 2 * self.dilation


class FilterNetConfig(ModelConfig):
    """The architecture of a FilterNet; `default.yaml` explains every key."""

    PER_BLOCK: ClassVar[tuple[str, ...]] = (
        "capacity",
        "kernel_size",
        "activation",
        "flip_conv_norm",
        "rezero",
        "reskip",
        "norm",
        "separable",
        "depthwise",
        "dilation",
    )

    capacity: Width | list[Width]
    num_layers: Annotated[int, Field(ge=1, le=64)]
    kernel_size: Kernel | list[Kernel]
    activation: Activation | list[Activation]
    flip_conv_norm: bool | list[bool]
    rezero: bool | list[bool]
    reskip: bool | list[bool]
    norm: Norm | list[Norm]
    padding: Literal["zero_after", "zero", "reflect", "replicate"]
    stem: Annotated[int, Field(ge=0, le=1024)] | None
    bias: bool
    head: Literal["conv", "sum"]
    output_activation: Literal["none", "relu", "sqrt", "sigmoid", "clip"]
    output_norm: Literal["none", "max"]
    separable: bool | list[bool]
    depthwise: bool | list[bool]
    dilation: Annotated[int, Field(ge=1, le=64)] | list[Annotated[int, Field(ge=1, le=64)]]
    shared_weights: bool
    downsample: Literal[1, 2]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for key in self.PER_BLOCK:
            value = getattr(self, key)
            if not isinstance(value, list):
                continue
            if len(value) != self.num_layers:
                raise ValueError(
                    f"{key} lists {len(value)} values; allowed: one value, or a list of "
                    f"num_layers ({self.num_layers}) values"
                )
            if self.shared_weights and self.num_layers > 1 and len(set(value)) > 1:
                raise ValueError(
                    f"{key} {value} differs from block to block; with shared_weights all blocks "
                    "are the same"
                )
        blocks = self.blocks
        if self.shared_weights and self.num_layers > 1 and blocks[0].channels != blocks[0].width:
            raise ValueError(
                f"shared_weights applies one block {self.num_layers} times, so stem "
                f"({blocks[0].channels}) must equal capacity ({blocks[0].width}) or be null"
            )
        for number, block in enumerate(blocks):
            if block.depthwise and block.separable:
                raise ValueError(f"block {number}: depthwise and separable exclude each other")
            if block.depthwise and block.width % block.channels:
                raise ValueError(
                    f"block {number}: depthwise turns {block.channels} channels into a multiple "
                    f"of {block.channels}, not into {block.width}"
                )
        if self.head == "sum" and blocks[-1].width % self.output_channels:
            raise ValueError(
                f"head sum needs a last capacity ({blocks[-1].width}) that is a multiple of "
                f"output_channels ({self.output_channels})"
            )
        return self

    @property
    def stem_channels(self) -> int:
        """Channels that the first block sees."""
        if self.stem is None:
            first: int = self._of(self.capacity, 0)
            return first
        return self.stem or self.input_channels

    @property
    def own_blocks(self) -> tuple[BlockShape, ...]:
        """The blocks with weights of their own: with shared weights the first one."""
        return self.blocks[:1] if self.shared_weights else self.blocks

    @cached_property
    def blocks(self) -> tuple[BlockShape, ...]:
        """The blocks in order; with shared weights the same one `num_layers` times."""
        blocks: list[BlockShape] = []
        channels = self.stem_channels
        for number in range(self.num_layers):
            kernel = self._of(self.kernel_size, number)
            width = self._of(self.capacity, number)
            blocks.append(
                BlockShape(
                    channels,
                    width,
                    _sides(kernel),
                    self._of(self.activation, number),
                    self._of(self.norm, number),
                    self._of(self.flip_conv_norm, number),
                    self._of(self.rezero, number),
                    self._of(self.reskip, number),
                    self._of(self.separable, number),
                    self._of(self.depthwise, number),
                    self._of(self.dilation, number),
                )
            )
            channels = width
        return tuple(blocks)

    @property
    def min_size(self) -> int:
        """The smallest height and width in pixels that the network accepts."""
        inside = 1
        for block in self.blocks:
            border = max(block.border)
            if self.padding == "zero_after":  # an unpadded convolution needs its whole kernel
                inside = max(inside, 2 * border + 1)
            elif self.padding == "reflect":  # a reflection, one pixel more than it mirrors
                inside = max(inside, border + 1)
            if block.norm == "group" and 1 in (block.channels, block.width):
                inside = max(inside, 2)  # one value alone cannot be normalised
        return 2 * inside - 1 if self.downsample == 2 else inside

    @property
    def widest(self) -> int:
        """See `ModelConfig`."""
        return max(self.stem_channels, *(block.width for block in self.blocks))

    @staticmethod
    def _of(value: Any, number: int) -> Any:
        return value[number] if isinstance(value, list) else value

    def canonical(self) -> Self:
        """See `ModelConfig`."""
        return self._canonical

    @cached_property
    def _canonical(self) -> Self:
        shared = self.shared_weights and self.num_layers > 1
        blocks = [_without_idle_keys(block) for block in self.blocks]
        changes: dict[str, Any] = {
            "stem": 0 if self.stem == 0 else self.stem_channels,
            "shared_weights": shared,
            "capacity": _merged([b.width for b in blocks]),
            "kernel_size": _merged([parse_kernel("{}x{}".format(*b.kernel)) for b in blocks]),
            "activation": _merged([b.activation for b in blocks]),
            "flip_conv_norm": _merged([b.norm_first for b in blocks]),
            "rezero": _merged([b.rezero for b in blocks]),
            "reskip": _merged([b.reskip for b in blocks]),
            "norm": _merged([b.norm for b in blocks]),
            "separable": _merged([b.separable for b in blocks]),
            "depthwise": _merged([b.depthwise for b in blocks]),
            "dilation": _merged([b.dilation for b in blocks]),
        }
        if all(block.kernel == (1, 1) for block in blocks):
            changes["padding"] = "zero"
        return self.model_copy(update=changes)


def _sides(kernel: int | str) -> tuple[int, int]:
    if isinstance(kernel, int):
        return kernel, kernel
    height, width = kernel.split("x")
    return int(height), int(width)


def _without_idle_keys(block: BlockShape) -> BlockShape:
    if block.norm == "none":
        block = block._replace(norm_first=True)
    if block.channels != block.width:
        block = block._replace(rezero=False, reskip=False)
    if block.kernel == (1, 1):
        block = block._replace(dilation=1)
    if block.channels == 1:
        block = block._replace(depthwise=False)
    return block


def _merged(values: list[T]) -> T | list[T]:
    """One value where all blocks have the same, else the list."""
    return values[0] if all(value == values[0] for value in values) else values
