"""The formats of an export: a registry, what each is given, and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clapp.config import Config
from clapp.errors import UserError
from clapp.export.options import Options
from clapp.inference.runner import Batch
from clapp.models.build import Network
from clapp.models.families import family_of
from clapp.models.graph.footprint import steps_or_reason
from clapp.models.graph.nodes import Graph
from clapp.models.targets.profile import find_target
from clapp.models.targets.rewrite import Fitted, rewrite
from clapp.models.words import model_in_words
from clapp.system.registry import Registry
from clapp.training.int8.loss import exported_state, training_pictures

ONNX = "model.onnx"


def weights_of(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The state of a model as arrays."""
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


@dataclass(frozen=True)
class Bundle:
    """The input of a format's writer.

    Attributes:
        folder: the folder to write to.
        model: on the CPU, in eval mode.
        proof: test pictures of three sizes, float32 (1, 3, H, W) in [0, 1], for the comparison with
            PyTorch.
        properties: metadata for files that can hold them.
        kept: intermediate results that several formats share.
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
            UserError: they are not known.
        """
        found = steps_or_reason(self.model.config)
        if isinstance(found, str):
            raise UserError(
                f"--format: this network ({model_in_words(self.model.config)}) can be written as "
                f"onnx alone, since its steps are not known: {found}"
            )
        return found

    @property
    def original(self) -> Fitted:
        """The steps of the network and its weights.

        Raises:
            UserError: they are not known.
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
    """The result of a format's writer.

    Attributes:
        files: file name -> its description in the card.
        facts: rows of the card: name -> value.
        runs: runtime -> a function that runs the file, from float32 (1, 3, H, W) to (1, C, H, W),
            or the reason why it could not be tried here.
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
    """Differences of one runtime from PyTorch: a value for each size, or the reason why there is
    none."""

    name: str
    values: Sequence[float] | str
