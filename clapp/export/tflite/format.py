"""The formats `tflite`, `tflite-int8` and `tflite-16x8` of an export."""

import json
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from clapp.export.formats import Bundle, Written
from clapp.export.int8 import NAMES, quantised
from clapp.export.onnx import describe
from clapp.export.tflite.convolutions import Sides
from clapp.export.tflite.run import Micro, MicroError, Run, missing, run_litert
from clapp.export.tflite.steps import write_tflite
from clapp.inference.runner import Batch
from clapp.training.int8.scales import Bits, Scales

Write = Callable[[Sides], bytes]


def write_float(bundle: Bundle) -> Written:
    """`model.tflite`, in floats.

    Raises:
        UserError: LiteRT is not installed, or the steps of the network are not known.
    """
    weights = {name: value.numpy() for name, value in bundle.fitted.state.items()}
    return _written(bundle, weights, None, "model.tflite", "TFLite", {})


def write_int8(bundle: Bundle) -> Written:
    """`model_int8.tflite`.

    Raises:
        UserError: see `write_float`.
    """
    return _write_integers(bundle, 8)


def write_16x8(bundle: Bundle) -> Written:
    """`model_16x8.tflite`: values of 16 bits, kernels of 8.

    Raises:
        UserError: see `write_float`.
    """
    return _write_integers(bundle, 16)


def _write_integers(bundle: Bundle, bits: Bits) -> Written:
    found, name = quantised(bundle, bits), NAMES[bits]
    file, label = f"model_{name}.tflite", f"TFLite, {name}"
    return _written(bundle, found.weights, found.scales, file, label, found.facts)


def _written(
    bundle: Bundle,
    weights: Mapping[str, NDArray[np.float32]],
    scales: Scales | None,
    file: str,
    label: str,
    facts: dict[str, str],
) -> Written:
    options, graph = bundle.options, bundle.fitted.graph
    described = describe(bundle.model.config, options, bundle.model.min_size)
    said = json.dumps({**bundle.properties, **described})

    def write(size: Sides) -> bytes:
        return write_tflite(
            graph, weights, size, scales, uint8=options.uint8, sliced=options.sliced, said=said
        )

    height, width = size = options.size or _sides(bundle.proof[0])
    content = write(size)
    (bundle.folder / file).write_bytes(content)
    where = f"for pictures of {width}x{height}"
    if options.size is None:
        where += ", as validation has them; --size gives others"
    for setting in bundle.config.settings:
        name, low, span = setting.name, setting.low, setting.high - setting.low
        where += f"; {name} is a channel behind them, ({name} - {low:g}) / {span:g}"
    facts = facts | {f"{label}: file": f"{len(content):,} bytes"}
    runs: dict[str, Run | str] = {f"{label}, LiteRT": _each_size(write, _litert)}
    micro, arena = _micro(write, bundle.proof[0])
    runs[f"{label}, TFLite Micro"] = micro
    if arena is not None:
        facts[f"{label}: arena of TFLite Micro"] = f"{arena:,} bytes at {width}x{height}"
    return Written({file: f"the network for TFLite, {where}"}, facts, runs)


def _sides(batch: Batch) -> Sides:
    return batch.shape[2], batch.shape[3]


def _litert(content: bytes, _: Batch) -> Run:
    return run_litert(content)


def _micro(write: Write, batch: Batch) -> tuple[Run | str, int | None]:
    """TFLite Micro, and what its arena takes for a picture; or the reason why it does not run."""
    try:
        micro = Micro(write(_sides(batch)), batch[0, 0].size)
        micro(batch)
    except ImportError:
        return missing("tflite-micro"), None
    except MicroError as error:
        return f"does not run: {error}", None
    return _each_size(write, lambda content, given: Micro(content, given[0, 0].size)), micro.arena()


def _each_size(write: Write, start: Callable[[bytes, Batch], Run]) -> Run:
    """The network on pictures of any size, each of which has a file of its own."""
    started: dict[Sides, Run] = {}

    def run(batch: Batch) -> Batch:
        size = _sides(batch)
        if size not in started:
            started[size] = start(write(size), batch)
        return started[size](batch)

    return run
