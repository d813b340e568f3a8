"""TFLite files run by LiteRT and by TFLite Micro's own kernels."""

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clapp.errors import ClappError
from clapp.inference.runner import Batch

Run = Callable[[Batch], Batch]
_ARENA = re.compile(r"Arena allocation total (\d+) bytes")
_SHORT = "Failed to resize buffer"
"""How TFLite Micro begins to say that a file needs a larger arena."""
_ROOM, _ROOM_A_PIXEL, _MOST = 1 << 20, 400, 1 << 31
"""Bytes of the arena that is lent to it: some, and some more for each pixel of the picture. As long
as that is too little it is doubled, up to 2 GiB."""


class MicroError(ClappError):
    """TFLite Micro refuses a file."""


def missing(package: str) -> str:
    """Why a file could not be run."""
    return f"not run: the package {package} is missing; install clapp[tflite]"


def run_litert(content: bytes) -> Run:
    """A file run by LiteRT on one thread: (1, C, H, W) in [0, 1] to (1, C, H, W)."""
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(batch: Batch) -> Batch:
        interpreter.set_tensor(image["index"], _given(batch, image["dtype"], image["quantization"]))
        interpreter.invoke()
        return _found(interpreter.get_tensor(output["index"]), output["quantization"])

    return run


class Micro:
    """A file in TFLite Micro, run by the kernels of its package.

    Raises:
        ImportError: the package is missing.
        MicroError: TFLite Micro does not run it; what it printed is the reason.
    """

    def __init__(self, content: bytes, pixels: int) -> None:
        from tflite_micro.python.tflite_micro import runtime  # type: ignore[import-untyped]

        arena = _ROOM + _ROOM_A_PIXEL * pixels
        while True:
            try:
                with _heard():
                    self._interpreter = runtime.Interpreter.from_bytes(content, [], arena)
                return
            except MicroError as error:
                arena *= 2
                if not str(error).startswith(_SHORT) or arena >= _MOST:
                    raise

    def __call__(self, batch: Batch) -> Batch:
        """(1, C, H, W) in [0, 1] to (1, C, H, W)."""
        image = self._interpreter.get_input_details(0)
        given = _given(batch, image["dtype"], _first(image))
        with _heard():
            self._interpreter.set_input(given, 0)
            self._interpreter.invoke()
        return _found(
            self._interpreter.get_output(0), _first(self._interpreter.get_output_details(0))
        )

    def arena(self) -> int:
        """Bytes of the arena that it takes, known after a run."""
        with _heard() as said:
            self._interpreter.print_allocations()
            found = _ARENA.search(said())
        if found is None:
            raise MicroError("TFLite Micro does not say what its arena takes")
        return int(found[1])


def _first(details: dict[str, Any]) -> tuple[float, int]:
    scales = details["quantization_parameters"]
    if not len(scales["scales"]):
        return 0.0, 0
    return float(scales["scales"][0]), int(scales["zero_points"][0])


def _given(batch: Batch, kind: Any, scale: tuple[float, int]) -> NDArray[Any]:
    """A picture as a file takes it."""
    image = np.ascontiguousarray(batch.transpose(0, 2, 3, 1), np.float32)
    if np.dtype(kind) == np.float32:
        return image
    limits = np.iinfo(kind)
    levels: NDArray[Any] = np.rint(image / scale[0] + scale[1]).clip(limits.min, limits.max)
    return levels.astype(kind)


def _found(output: NDArray[Any], scale: tuple[float, int]) -> Batch:
    if output.dtype != np.float32:
        output = (output.astype(np.float32) - scale[1]) * np.float32(scale[0])
    return np.ascontiguousarray(output.transpose(0, 3, 1, 2), np.float32)


@contextlib.contextmanager
def _heard() -> Iterator[Callable[[], str]]:
    """Hear what TFLite Micro prints, in C and in Python; its errors are in that text alone.

    Raises:
        MicroError: it raised an error.
    """
    with tempfile.TemporaryFile() as file, contextlib.redirect_stdout(io.StringIO()):
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(file.fileno(), 2)

        def said() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield said
        except RuntimeError as error:
            lines = [line for line in said().splitlines() if line.strip()]
            raise MicroError(lines[0] if lines else str(error)) from error
        finally:
            os.dup2(before, 2)
            os.close(before)
