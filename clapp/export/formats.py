"""The formats of an export: a registry, and what each is given and returns."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.config import Config
from clapp.errors import ParityError, UserError
from clapp.export.onnx import opset_of, parity, weights_of, write_onnx
from clapp.export.options import Options
from clapp.inference.runner import Batch, open_session
from clapp.models.build import Network
from clapp.models.families import family_of
from clapp.models.graph.nodes import IMAGE, Graph
from clapp.models.targets.profile import find_target
from clapp.models.targets.rewrite import Fitted, rewrite
from clapp.models.words import model_in_words
from clapp.system.registry import Registry
from clapp.training.int8.loss import exported_state, training_pictures

ONNX = "model.onnx"


@dataclass(frozen=True)
class Bundle:
    """What a format is made from.

    Attributes:
        folder: where its files go.
        model: on the CPU, in eval mode.
        proof: pictures float32 (1, 3, H, W) in [0, 1], of three sizes, to compare on.
        properties: said of the model in files that have room for it.
        kept: what formats share, worked out once.
    """

    folder: Path
    model: Network
    config: Config
    options: Options
    proof: Sequence[Batch]
    properties: Mapping[str, str]
    kept: dict[Any, object] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """The steps of the network.

        Raises:
            UserError: its family does not know them.
        """
        graph = family_of(self.model.config).graph(self.model.config)
        if graph is None:
            raise UserError(
                f"--format: this network ({model_in_words(self.model.config)}) can be written as "
                "onnx alone"
            )
        return graph

    @property
    def original(self) -> Fitted:
        """The steps of the network and its weights.

        Raises:
            UserError: its family does not know them.
        """
        return Fitted(self.graph, dict(exported_state(self.model)))

    @property
    def fitted(self) -> Fitted:
        """The steps as the target takes them; without a target the original ones.

        Raises:
            UserError: they are not known, or training pictures, that pieces are fitted on, cannot
                be read.
        """
        if self.options.target is None:
            return self.original
        found = self.kept.get("fitted")
        if not isinstance(found, Fitted):
            steps, profile = self.original, find_target(self.options.target)
            found = rewrite(
                steps.graph, steps.state, profile, lambda: training_pictures(self.config)[0]
            )
            self.kept["fitted"] = found
        return found

    def expected(self, picture: Batch, *, rewritten: bool = True) -> Batch:
        """What PyTorch computes; `rewritten`: with the steps as the target takes them."""
        import torch

        image = torch.from_numpy(picture)
        with torch.no_grad():
            if rewritten and self.options.target is not None and self.fitted.lossy:
                return self.fitted.computed(image).numpy()
            result: Batch = self.model(image).numpy()
            return result

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights by name."""
        return weights_of(family_of(self.model.config).exported(self.model))


class Written(NamedTuple):
    """What a format wrote.

    Attributes:
        files: name -> what it is, for the card.
        facts: rows of the card: name -> value.
        runs: who runs a file -> float32 pictures (1, 3, H, W) to (1, C, H, W), or the reason why
            it could not be tried here.
    """

    files: dict[str, str]
    facts: dict[str, str] = {}  # noqa: RUF012 - never written to
    runs: dict[str, "Callable[[Batch], Batch] | str"] = {}  # noqa: RUF012


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        write: what writes it.
        tolerance: how far its results may be from PyTorch's.
        rewritten: whether it is written from the steps as the target takes them.
    """

    write: Callable[[Bundle], Written]
    tolerance: float = 1e-4
    rewritten: bool = True


FORMATS: Registry[Format] = Registry("format")


class Difference(NamedTuple):
    """How far one way of running a file is from PyTorch: a value for each size, or a reason."""

    name: str
    values: Sequence[float] | str


def compare(
    bundle: Bundle, name: str, run: Callable[[Batch], Batch] | str, *, rewritten: bool = True
) -> Difference:
    """The largest absolute difference from PyTorch for every picture of the proof."""
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
    write_onnx(bundle.model, path, bundle.properties, bundle.options, steps)
    parity(bundle.model if steps is None else steps.computed, path, bundle.proof)
    session = open_session(path)
    uint8 = bundle.options.uint8

    def run(batch: Batch) -> Batch:
        given = np.rint(batch * 255).astype(np.uint8) if uint8 else batch
        result: Batch = session.run(None, {IMAGE: given})[0]
        return result

    size = bundle.options.size
    free = "with free batch size, height and width" if size is None else "of fixed size"
    return Written(
        {ONNX: f"the same network as ONNX, {free}"},
        {"ONNX opset": str(opset_of(path))},
        {"ONNX Runtime": run},
    )


FORMATS.add("onnx", Format(_onnx))


@dataclass(frozen=True)
class Later:
    """A writer in another module of the package, which is imported once it is asked for."""

    module: str
    name: str

    @property
    def function(self) -> Callable[[Bundle], Written]:
        """The writer itself."""
        found: Callable[[Bundle], Written] = getattr(
            import_module(f"clapp.export.{self.module}"), self.name
        )
        return found

    def __call__(self, bundle: Bundle) -> Written:
        """Write the files."""
        return self.function(bundle)


FORMATS.add("c", Format(Later("c.format", "write_float"), rewritten=False))
FORMATS.add("python", Format(Later("pytorch", "write_python"), rewritten=False))
FORMATS.add("program", Format(Later("pytorch", "write_program"), rewritten=False))
FORMATS.add("opencv-dnn", Format(Later("runtimes", "try_opencv")))
FORMATS.add("openvino", Format(Later("runtimes", "write_openvino")))
FORMATS.add("tflite", Format(Later("tflite.format", "write_float")))
# How far those in integers are from PyTorch is the loss of the rounding, which the card states.
for _name, _where in {
    "onnx-int8": ("int8", "write_onnx_int8"),
    "onnx-16x8": ("int8", "write_onnx_16x8"),
    "c-int8": ("int8", "write_c_int8"),
    "tflite-int8": ("tflite.format", "write_int8"),
    "tflite-16x8": ("tflite.format", "write_16x8"),
}.items():
    FORMATS.add(_name, Format(Later(*_where), math.inf, rewritten=_name != "c-int8"))
