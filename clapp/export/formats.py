"""The formats of an export: a registry, what each is given, and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clapp.config import Config
from clapp.errors import UserError
from clapp.export.options import Options
from clapp.inference.runner import Batch
from clapp.models.build import Network
from clapp.models.families import family_of
from clapp.models.graph.nodes import Graph
from clapp.models.words import model_in_words
from clapp.system.registry import Registry

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
    kept: dict[str, object] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """The steps of the network.

        Raises:
            UserError: its family has no graph.
        """
        graph = family_of(self.model.config).graph(self.model.config)
        if graph is None:
            raise UserError(
                f"--format: this network ({model_in_words(self.model.config)}) can be written as "
                "onnx alone"
            )
        return graph

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
    """A format: what writes it, and how far its results may be from PyTorch's."""

    write: Callable[[Bundle], Written]
    tolerance: float = 1e-4


FORMATS: Registry[Format] = Registry("format")


class Difference(NamedTuple):
    """Differences of one runtime from PyTorch: a value for each size, or the reason why there is
    none."""

    name: str
    values: Sequence[float] | str
