"""The formats that come with CLAPP, and the comparison of what they write with PyTorch."""

import math
from collections.abc import Callable

import numpy as np

from clapp.errors import ParityError
from clapp.export.c.format import write_float
from clapp.export.formats import FORMATS as FORMATS
from clapp.export.formats import ONNX, Bundle, Difference, Format, Written
from clapp.export.int8 import write_c_int8, write_onnx_16x8, write_onnx_int8
from clapp.export.onnx import opset_of, parity, write_onnx
from clapp.export.pytorch import write_program, write_python
from clapp.export.runtimes import try_opencv, write_openvino
from clapp.export.tflite import format as tflite
from clapp.inference.adjusted import feed
from clapp.inference.runner import Batch, open_session


def compare(
    bundle: Bundle, name: str, run: Callable[[Batch], Batch] | str, *, rewritten: bool = True
) -> Difference:
    """The largest absolute difference from PyTorch for every test picture in `bundle.proof`.

    Args:
        rewritten: compare with the steps as the target takes them.
    """
    if isinstance(run, str):
        return Difference(name, run)
    found = []
    for picture in bundle.proof:
        expected = bundle.expected(picture, rewritten=rewritten)
        try:
            found.append(float(np.abs(run(picture) - expected).max()))
        except Exception as error:  # runtimes raise anything
            height, width = picture.shape[2:]
            reason = (str(error) or type(error).__name__).splitlines()[0]
            return Difference(name, f"fails at {width}x{height}: {reason[:120]}")
    return Difference(name, found)


def write_format(name: str, bundle: Bundle) -> tuple[Written, list[Difference]]:
    """Write one format and compare every way of running it.

    Raises:
        ConfigError: no such format.
        ParityError: its results are further from PyTorch's than the format allows.
    """
    entry = FORMATS.find(name)
    written = entry.write(bundle)
    differences = [
        compare(bundle, who, run, rewritten=entry.rewritten) for who, run in written.runs.items()
    ]
    for difference in differences:
        if isinstance(difference.values, str):
            continue
        worst = max(difference.values)
        if not worst <= entry.tolerance:
            raise ParityError(
                f"{name}: {difference.name} and PyTorch differ by {worst:.2g}; at most "
                f"{entry.tolerance:g} is allowed"
            )
    return written, differences


def _onnx(bundle: Bundle) -> Written:
    """`model.onnx`: the same network, which every export has."""
    path = bundle.folder / ONNX
    steps = None if bundle.options.target is None else bundle.fitted
    settings = bundle.config.settings
    write_onnx(bundle.model, path, bundle.properties, bundle.options, steps, settings)
    parity(bundle.model if steps is None else steps.computed, path, bundle.proof)
    session = open_session(path)
    uint8 = bundle.options.uint8

    def run(batch: Batch) -> Batch:
        result: Batch = session.run(None, feed(batch, settings, uint8=uint8))[0]
        return result

    size = bundle.options.size
    free = "with free batch size, height and width" if size is None else "of fixed size"
    return Written(
        {ONNX: f"the same network as ONNX, {free}"},
        {"ONNX opset": str(opset_of(path))},
        {"ONNX Runtime": run},
    )


FORMATS.add("onnx", Format(_onnx))
FORMATS.add("c", Format(write_float, rewritten=False))
FORMATS.add("python", Format(write_python, rewritten=False))
FORMATS.add("program", Format(write_program, rewritten=False))
FORMATS.add("opencv-dnn", Format(try_opencv))
FORMATS.add("openvino", Format(write_openvino))
FORMATS.add("tflite", Format(tflite.write_float))
# Differences of formats in integers from PyTorch come from rounding; the card states the loss.
FORMATS.add("onnx-int8", Format(write_onnx_int8, math.inf))
FORMATS.add("onnx-16x8", Format(write_onnx_16x8, math.inf))
FORMATS.add("c-int8", Format(write_c_int8, math.inf, rewritten=False))
FORMATS.add("tflite-int8", Format(tflite.write_int8, math.inf))
FORMATS.add("tflite-16x8", Format(tflite.write_16x8, math.inf))
