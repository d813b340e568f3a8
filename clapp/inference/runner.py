"""One interface to trained models in folders and in ONNX files."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clapp.config import FilterSpec
from clapp.errors import UserError
from clapp.filters.learned.settings import Setting, Values, read_settings
from clapp.inference.adjusted import at, feed
from clapp.inference.parts import GATHERED_PARTS, PARTS, Apply, Gather, Parts, parts_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]

    from clapp.inference.reductions import Reduced, Reduction

Batch = NDArray[np.float32]


class Runner(Protocol):
    """A model that can be applied to pictures.

    Attributes:
        filter: the classical filter that the model learned; None: unknown.
        min_size: the smallest height and width in pixels that it accepts.
        channels: channels of the output, 1 or 3.
        parts: the pixels needed around a part of a picture; None: only whole pictures can be
            filtered.
        gathers: whether parts need what is gathered from the whole picture first.
        settings: what it takes as channels behind the picture (`clapp.filters.learned`).
    """

    filter: FilterSpec | None
    min_size: int
    channels: int
    parts: Parts | None
    gathers: bool
    settings: tuple[Setting, ...]

    def run(self, images: Batch) -> Batch:
        """Apply the model to (N, 3 + n, H, W) in [0, 1]: (N, channels, H, W), not clamped."""
        ...

    def by_parts(self, gather: Gather) -> AbstractContextManager[Apply]:
        """The model for the parts of one picture, which give what the whole gives.

        Args:
            gather: called as often as the model has statistics of the whole picture.
        """
        ...


def open_runner(path: str | Path, values: Values | None = None) -> Runner:
    """The model in an export folder, a trial folder or an `.onnx` file.

    Args:
        values: of each of its settings, by name.

    Raises:
        UserError: there is none, it is broken, its output has neither 1 nor 3 channels, or a
            setting has no value, or one that is not allowed.
    """
    return at(opened(path), values or {}, str(path))


def opened(path: str | Path) -> Runner:
    """As `open_runner`, with its settings as channels behind the picture."""
    path = Path(path)
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        return _OnnxRunner(path)
    if path.is_file():
        raise UserError(f"{path}: an export folder, a trial folder or an .onnx file is expected")
    return _TorchRunner(path)


def as_batch(image: NDArray[np.uint8]) -> Batch:
    """One picture, uint8 (H, W, 3), as float32 (1, 3, H, W) in [0, 1]."""
    batch = np.array(image.transpose(2, 0, 1)[None], np.float32, order="C")
    batch /= np.float32(255)
    return batch


def as_image(output: Batch) -> NDArray[np.float32]:
    """The first output of a batch (N, C, H, W) as (H, W), or (H, W, 3) of three channels."""
    first: NDArray[np.float32] = output[0]
    return first[0] if len(first) == 1 else first.transpose(1, 2, 0)


def open_session(path: Path) -> "InferenceSession":
    """An ONNX Runtime session on the CPU.

    Raises:
        UserError: the file is missing or broken.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        return _session(path)
    except Exception as error:  # its exceptions have no common base class
        raise UserError(f"{path}: cannot be read as ONNX: {_first_line(error)}") from error


def _session(model: Path | bytes) -> "InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; warnings are about its own optimiser
    # Threads that wait in a loop take the time of those that compute other tiles.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class _TorchRunner:
    def __init__(self, folder: Path) -> None:
        from clapp.training.folder import load_trained

        self._model, config = load_trained(folder)
        self.settings = config.settings
        given = 3 + len(self.settings)
        channels = (config.model.input_channels, config.model.output_channels)
        if channels not in ((given, 1), (given, 3)):
            raise UserError(
                f"{folder}: it turns {channels[0]} channels into {channels[1]}, not {given} into "
                "1 or 3"
            )
        self.channels: int = config.model.output_channels
        self.filter: FilterSpec | None = config.target_filter
        self.min_size = self._model.min_size
        self.parts = parts_of(config.model, gathers=True)
        self.gathers = parts_of(config.model, gathers=False) is None

    def run(self, images: Batch) -> Batch:
        import torch

        with torch.no_grad():
            output: Batch = self._model(torch.from_numpy(images)).numpy()
        return output

    @contextmanager
    def by_parts(self, gather: Gather) -> Iterator[Apply]:
        import torch

        from clapp.models.networks.whole import Gathering

        gathering = Gathering(self._model)
        gathering.gather(
            lambda see: gather(lambda images, where: see(torch.from_numpy(images), where))
        )
        yield lambda images, where: gathering(torch.from_numpy(images), where).numpy()


class _OnnxRunner:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._session = open_session(path)
        inputs = self._session.get_inputs()
        properties = self._session.get_modelmeta().custom_metadata_map
        self.settings = read_settings(properties.get("parameter"))
        self._uint8 = [i.type for i in inputs[:1]] == ["tensor(uint8)"]
        kind = "tensor(uint8)" if self._uint8 else "tensor(float)"
        image = [(i.type, len(i.shape), i.shape[1:2]) for i in inputs[:1]]
        more = [i.name for i in inputs[1:]]
        if image != [(kind, 4, [3])] or more != [s.name for s in self.settings]:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise UserError(
                f"{path}: one input, float32 or uint8 (N, 3, H, W), is expected, not {found}"
            )
        self._input = inputs[0].name
        self.filter: FilterSpec | None = _json_or_none(properties.get("filter"))
        self.min_size: int = _json_or_none(properties.get("min_size")) or 1
        self.parts = Parts.read(properties.get(PARTS))
        self._statistics: list[Reduction] = []
        if self.parts is None and not self.settings:
            self._look_for_statistics(Parts.read(properties.get(GATHERED_PARTS)))
        self.gathers = bool(self._statistics)
        shape = self._session.get_outputs()[0].shape
        self.channels = 3 if shape[1:2] == [3] else 1

    def run(self, images: Batch) -> Batch:
        expected = (len(images), self.channels, *images.shape[2:])
        given = feed(images, self.settings, uint8=self._uint8)
        given[self._input] = given.pop("image")
        try:
            output: Batch = self._session.run(None, given)[0]
        except Exception as error:  # its exceptions have no common base class
            raise UserError(
                f"{self._path}: cannot be applied to {images.shape}: {_first_line(error)}"
            ) from error
        if output.shape != expected:
            raise UserError(f"{self._path}: its output is {output.shape}; {expected} is expected")
        return output

    @contextmanager
    def by_parts(self, gather: Gather) -> Iterator[Apply]:
        if not self._statistics:
            yield lambda images, _: self.run(images)
            return
        reduced = self._reduced
        known = reduced.gathered(gather, self._given)
        yield lambda images, _: reduced.apply(self._given(images), known)

    def _given(self, images: Batch) -> NDArray[Any]:
        return np.rint(images * 255).astype(np.uint8) if self._uint8 else images

    def _look_for_statistics(self, parts: Parts | None) -> None:
        """Find the statistics of the whole picture that a file says it has."""
        if parts is None:
            return
        import onnx

        from clapp.inference.reductions import reductions_of

        self._statistics = reductions_of(onnx.load(self._path)) or []
        self.parts = parts if self._statistics else None

    @cached_property
    def _reduced(self) -> "Reduced":
        from clapp.inference.reductions import Reduced

        return Reduced(self._path, self._statistics, lambda content: _session(content).run)


def _json_or_none(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
