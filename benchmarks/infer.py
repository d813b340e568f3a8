"""`clapp bench infer`: milliseconds a picture, one thread, one picture at a time.

`reference` is the hand-tuned architecture of 2022; ours, in the ratios, is the small model in the C
code of an export, compiled for this machine. Networks take a ready float32 batch and OpenCV
its uint8 picture: what turns one into the other is the same for all networks and not counted. Each
figure comes from a process of its own, whose peak memory includes its libraries.
"""

import ctypes
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from benchmarks.measure import Result, Row, figure, in_process, in_turn
from clapp.config import FilterSpec, load_config
from clapp.errors import UserError
from clapp.images import open_source
from clapp.images.decode import Picture

if TYPE_CHECKING:
    from clapp.export.c.header import Code
    from clapp.models import build

WARM_UP_SECONDS, SECONDS = 0.2, 1.0
REFERENCE = "reference"
TORCH, ONNX, C, CLASSICAL = "PyTorch", "ONNX Runtime", "C", "OpenCV"
C_FLAGS = ("-std=c99", "-O3", "-fno-math-errno", "-march=native", "-ffp-contract=fast")
_FILTER = "sobel_3"
# The filter's own form: the root of a sum of squares, divided by the picture's maximum.
SMALL = {
    "stem": 1,
    "capacity": 2,
    "num_layers": 1,
    "kernel_size": 5,
    "padding": "reflect",
    "norm": "none",
    "rezero": False,
    "reskip": False,
    "activation": "square",
    "output_activation": "sqrt",
    "output_norm": "max",
}


class Network(NamedTuple):
    """A network to measure: what to call it, its module on the CPU, the filter it stands for."""

    name: str
    model: "build.Network"
    filter: FilterSpec


def run(sizes: list[int], model: Path | None, repeats: int) -> Result:
    """Measure the reference architecture and a small model beside the classical filter.

    Args:
        sizes: of the square picture, pixels.
        model: export or trial folder; None: 59 parameters in the form of sobel_3, with fresh
            weights, which take as long as trained ones.
        repeats: rounds.

    Raises:
        UserError: there is no model, or it is broken.
    """
    ours = small() if model is None else _loaded(model)
    networks = [_reference(), ours]
    with TemporaryDirectory() as name:
        folders = [Path(name, part) for part in ("reference", "small")]
        for network, folder in zip(networks, folders, strict=True):
            _write(network, folder)
        runs: dict[str, Callable[[], dict[str, float]]] = {}
        for size in sizes:
            for network, folder in zip(networks, folders, strict=True):
                for way, time_it in _WAYS.items():
                    label = _label(network.name, way, size)
                    runs[label] = partial(_measured, time_it, folder, size)
            runs[_label(CLASSICAL, None, size)] = partial(
                _measured, _time_classical, ours.filter, size
            )
        rows = in_turn(runs, repeats)
    return Result(rows, _ratios(rows, ours.name, sizes))


def _label(name: str, way: str | None, size: int) -> str:
    return ", ".join(filter(None, (name, way, f"{size} px")))


def _ratios(rows: list[Row], small: str, sizes: list[int]) -> dict[str, float]:
    peers = {
        f"{REFERENCE}, {TORCH}": (REFERENCE, TORCH),
        f"{REFERENCE}, {ONNX}": (REFERENCE, ONNX),
        f"ours in {TORCH}": (small, TORCH),
        f"ours in {ONNX}": (small, ONNX),
        CLASSICAL: (CLASSICAL, None),
    }
    ratios = {}
    for size in sizes:
        ours = figure(rows, _label(small, C, size), "ms")
        for peer, (name, way) in peers.items():
            ratios[f"{peer} / ours, {size} px"] = figure(rows, _label(name, way, size), "ms") / ours
    return ratios


def _reference() -> Network:
    from clapp.models.build import build_model

    config = load_config()
    return Network(REFERENCE, build_model(config.model).eval(), config.target_filter)


def small() -> Network:
    """59 parameters in the form of sobel_3, with fresh weights."""
    from clapp.models.build import build_model

    return Network(f"{_FILTER}'s own form (untrained)", build_model(SMALL).eval(), _FILTER)


def _loaded(folder: Path) -> Network:
    from clapp.training.folder import load_trained

    model, config = load_trained(folder)
    return Network(folder.resolve().name, model, config.target_filter)


def _write(network: Network, folder: Path) -> None:
    """What a process needs to run it: the trial folder's files, and the ONNX file."""
    from clapp.export.c.compiled import compile_c
    from clapp.export.onnx import write_onnx
    from clapp.system.files import write_text
    from clapp.training.folder import save_config, save_weights

    folder.mkdir()
    config = load_config().model_copy(update={"model": network.model.config})
    save_config(folder, config)
    save_weights(folder, network.model)
    write_onnx(network.model, folder / "model.onnx", {})
    code = _code(network.model)
    write_text(folder / "model.h", code.header)
    write_text(folder / "model.c", code.source)
    compile_c(folder, folder / "model.so", *C_FLAGS)


def _code(model: "build.Network") -> "Code":
    from clapp.export.c.source import write_c
    from clapp.export.formats import weights_of
    from clapp.models.families import family_of

    family = family_of(model.config)
    graph = family.graph(model.config)
    if graph is None:
        raise UserError(f"model family {family.name!r}: it cannot be written as C")
    return write_c(
        graph, weights_of(family.exported(model)), "model", "a network", model.min_size, uint8=False
    )


def _measured(way: Callable[..., float], *arguments: object) -> dict[str, float]:
    seconds, peak = in_process(way, *arguments)
    return {"ms": seconds * 1000, "peak_mib": peak / 2**20}


def _time_torch(folder: Path, size: int) -> float:
    import torch

    from clapp.training.folder import load

    torch.set_num_threads(1)
    model = load(folder)
    batch = torch.from_numpy(_batch(size))
    with torch.inference_mode():
        return _median_seconds(lambda: model(batch))


def _time_onnx(folder: Path, size: int) -> float:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # as `clapp.inference.runner` has it
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    inputs = {session.get_inputs()[0].name: _batch(size)}
    return _median_seconds(lambda: session.run(None, inputs))


def _time_c(folder: Path, size: int) -> float:
    from clapp.training.folder import load

    code = _code(load(folder))
    run = ctypes.CDLL(str(folder / "model.so")).model_run
    run.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    image, output = _batch(size), np.empty((size, size), np.float32)
    workspace = np.empty(code.ram(size), np.uint8)
    places = [array.ctypes.data for array in (image, output, workspace)]
    return _median_seconds(lambda: run(places[0], size, size, *places[1:]))


def _time_classical(spec: FilterSpec, size: int) -> float:
    import cv2

    from clapp.filters.library import resolve

    cv2.setNumThreads(1)
    target, picture = resolve(spec), photograph(size)
    return _median_seconds(lambda: target(picture))


_WAYS: dict[str, Callable[[Path, int], float]] = {
    TORCH: _time_torch,
    ONNX: _time_onnx,
    C: _time_c,
}


def photograph(size: int) -> Picture:
    """A photograph of the validation split, uint8 (size, size, 3)."""
    picture = next(open_source(load_config().valid_data).epoch(0))
    return np.asarray(ImageOps.fit(Image.fromarray(picture), (size, size)))


def _batch(size: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    from clapp.inference.runner import as_batch

    return as_batch(photograph(size))


def _median_seconds(call: Callable[[], object]) -> float:
    """Of the calls in about a second, at least one, after a warm-up of at least one."""
    _repeated(call, WARM_UP_SECONDS)
    return statistics.median(_repeated(call, SECONDS))


def _repeated(call: Callable[[], object], seconds: float) -> list[float]:
    taken: list[float] = []
    while sum(taken) < seconds:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken
