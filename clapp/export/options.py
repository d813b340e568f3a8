"""Options of an export: formats, size, opset, type of the input."""

import re
from dataclasses import dataclass

from clapp.errors import UserError
from clapp.models.graph.nodes import Graph
from clapp.models.targets.profile import find_target

LEAST_OPSET, MOST_OPSET = 11, 18
"""The lowest opset with reflected borders and slices of unknown size."""
_SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class Options:
    """The options of `clapp export`.

    Attributes:
        formats: formats to write beside ONNX; see `clapp.export.writers`.
        size: (height, width) of every picture, with batch 1; None: any, and any batch.
        opset: the ONNX opset, 11 to 18; None: the lowest possible.
        uint8: the input is uint8, and the exported model scales it to [0, 1].
        target: the name of a target profile that the model must fit; None: none.
        fine_tune: fine-tune the network for int8 before an int8 format is written.
    """

    formats: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    opset: int | None = None
    uint8: bool = False
    fine_tune: bool = False
    target: str | None = None

    @property
    def sliced(self) -> bool:
        """Whether mirrored borders are written by Slice and Concat."""
        return self.target is not None and find_target(self.target).mirrors_by_slices


def parse_size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH in pixels.

    Raises:
        UserError: the text has another form.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UserError(f"--size {text}: not a size; allowed: HEIGHTxWIDTH, such as 224x320")
    return int(match[1]), int(match[2])


def check_options(options: Options, min_size: int) -> None:
    """Check that a model can be exported with these options.

    Raises:
        UserError: the opset is out of range, or a side smaller than the network's minimum.
    """
    opset = options.opset
    if opset is not None and not LEAST_OPSET <= opset <= MOST_OPSET:
        raise UserError(f"--opset {opset}: allowed: {LEAST_OPSET} to {MOST_OPSET}")
    if options.size is not None and min(options.size) < min_size:
        height, width = options.size
        raise UserError(
            f"--size {height}x{width}: sides of at least {min_size} pixels are needed by this model"
        )


def _type_of(name: str) -> str | None:
    """Of values in a format's files; None: the format is not for chips."""
    base, _, kind = name.partition("-")
    if base not in ("onnx", "tflite") or name == "onnx":
        return None
    return kind or "float32"


def check_target(options: Options, graph: Graph) -> None:
    """Check that a model runs on the target.

    Raises:
        UserError: it does not; the message names the first unsupported operator.
        ConfigError: no such target.
    """
    if options.target is None:
        return
    profile = find_target(options.target)
    for name in options.formats:
        kind = _type_of(name)
        if kind is not None and kind not in profile.types:
            raise UserError(
                f"--target {options.target} --format {name}: it does not run {kind}; "
                f"allowed: {', '.join(profile.types)}"
            )
    for problem in profile.problems(graph):
        raise UserError(f"--target {options.target}: this model does not run there: {problem}")
    if profile.sizes == "fixed" and options.size is None:
        raise UserError(
            f"--target {options.target}: it runs pictures of one size only; give --size HxW"
        )
