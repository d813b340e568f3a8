"""The formats of an export in integers: scales, losses, files."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clapp.export.c.format import written
from clapp.export.c.header import identifier
from clapp.export.c.int8 import write_c_int8 as c_source
from clapp.export.formats import Bundle, Written
from clapp.export.onnx import write_int8_onnx
from clapp.export.onnx_int8 import OPSETS
from clapp.filters.learned.settings import ranged_name
from clapp.front.objectives import loss_text
from clapp.inference.adjusted import feed
from clapp.inference.runner import Batch, open_session
from clapp.training.int8.loss import fine_tune, in_integers, loss_of, training_pictures
from clapp.training.int8.scales import Bits, Scales

NAMES: dict[Bits, str] = {8: "int8", 16: "16x8"}


@dataclass(frozen=True)
class Int8:
    """A network as it is written in integers: weights, scales, and rows of the card."""

    weights: dict[str, NDArray[np.float32]]
    scales: Scales
    facts: dict[str, str]


def quantised(bundle: Bundle, bits: Bits = 8, *, original: bool = False) -> Int8:
    """The network in integers; the same for every format of an export.

    Args:
        bits: of values; kernels have 8.
        original: the steps of the network, whatever the target of the export.

    Raises:
        UserError: the steps of the network are not known, or pictures cannot be read.
    """
    name = NAMES[bits]
    steps = bundle.original if original else bundle.fitted
    key = (name, steps.lossy, steps.exact)
    kept = bundle.kept.get(key)
    if isinstance(kept, Int8):
        return kept
    graph, config = steps.graph, bundle.config
    state, scales = in_integers(graph, steps.state, training_pictures(config)[0], bits)
    said = f"loss in {name}"
    if steps.lossy:
        said += f", as written for {bundle.options.target}"
    facts = {said: loss_text(loss_of(config, graph, state, scales))}
    if bundle.options.fine_tune:
        state, scales = fine_tune(graph, state, config, bits)
        tuned = loss_text(loss_of(config, graph, state, scales))
        facts[f"{said}, fine-tuned for it"] = tuned
    weights: dict[str, NDArray[Any]] = {k: v.detach().numpy() for k, v in state.items()}
    found = Int8(weights, scales, facts)
    bundle.kept[key] = found
    return found


def write_onnx_int8(bundle: Bundle) -> Written:
    """`model_int8.onnx`: values rounded by QuantizeLinear, which runtimes turn into integers."""
    return _write_onnx(bundle, 8)


def write_onnx_16x8(bundle: Bundle) -> Written:
    """`model_16x8.onnx`: the same with values of 16 bits."""
    return _write_onnx(bundle, 16)


def _write_onnx(bundle: Bundle, bits: Bits) -> Written:
    int8, name = quantised(bundle, bits), NAMES[bits]
    path = bundle.folder / f"model_{name}.onnx"
    write_int8_onnx(bundle, int8.weights, int8.scales, path)
    session, uint8 = open_session(path), bundle.options.uint8

    def run(batch: Batch) -> Batch:
        given = feed(batch, bundle.config.settings, uint8=uint8)
        result: Batch = session.run(None, given)[0]
        return result

    opset = max(bundle.options.opset or 0, OPSETS[bits])
    what = f"the network in {name} as ONNX (opset {opset}), rounded by QuantizeLinear"
    return Written({path.name: what}, int8.facts, {f"ONNX Runtime, {name}": run})


def write_c_int8(bundle: Bundle) -> Written:
    """`model_int8.h` and `model_int8.c`: integers only."""
    int8 = quantised(bundle, original=True)
    name = ranged_name(bundle.config.target_filter, bundle.config.parameter)
    params = sum(values.size for values in int8.weights.values())
    title = f"{name} in {params} parameters, int8"
    code = c_source(
        bundle.graph,
        int8.weights,
        int8.scales,
        f"{identifier(name)}_int8",
        title,
        bundle.model.min_size,
        bundle.config.settings,
    )
    result = written(bundle, code, "C, int8", uint8=True)
    return result._replace(facts=int8.facts | result.facts)
