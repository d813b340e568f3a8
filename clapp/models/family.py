"""A family of networks: the functions that the rest of the package needs of one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

from clapp.config.model import ModelConfig
from clapp.models.graph.nodes import Graph
from clapp.system.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

SIDE = 224
"""Height and width in pixels of the picture that FLOPs, latency and memory are given for."""
State: TypeAlias = Mapping[str, "Tensor"]
"""The state of a network: values by name."""
Change = tuple[str, dict[str, Any]]
"""A change of a network: in words, and as keys of its configuration."""
C = TypeVar("C", bound=ModelConfig)


class Cost(NamedTuple):
    """Trainable parameters, and FLOPs of the convolutions (2 per multiply-add) at 224x224."""

    params: int
    flops: int


def overlapping(_: ModelConfig, weights: State, __: ModelConfig, fresh: State) -> State:
    """Inherit the weights that two networks of a family have in common; see
    `clapp.models.overlap`."""
    from clapp.models.overlap import overlap  # loads torch

    return overlap(weights, fresh)


def as_it_is(net: "nn.Module") -> "nn.Module":
    """Default of `Family.exported`: the network is exported as it was trained."""
    return net


def anywhere(_: ModelConfig) -> int:
    """Default of `Family.alignment`: parts of a picture may begin anywhere."""
    return 1


def traced(_: ModelConfig) -> None:
    """Default of `Family.graph`: the steps are unknown, and torch traces the network for ONNX."""


@dataclass(frozen=True)
class Family(Generic[C]):
    """A family of networks. The functions take a configuration of the family.

    Only `build`, `inherited` and `exported` may load torch: a search computes the costs of hundreds
    of candidates.

    Attributes:
        name: its name in `model.family`.
        config: the class of its section `model`, a subclass of `ModelConfig`. Its docstring says
            what the networks are. `canonical` and `widest` are methods of it.
        build: a new network, a `torch.nn.Module` that turns float32 (B, Cin, H, W) in [0, 1] into
            (B, Cout, H, W), not clamped, for all sizes from `min_size` on. It mixes no pictures of
            a batch.
        cost: its trainable parameters, and the FLOPs of its convolutions at 224x224, exactly.
        min_size: the smallest height and width in pixels that the network accepts.
        receptive_field: how many pixels up and down, and left and right, an output pixel depends
            on; statistics of the whole picture are not counted.
        is_local: whether an output pixel depends only on its receptive field.
        words: the network in words, such as "2 blocks of 4 channels, 3x3".
        changes: the single changes of a network, in words and as keys; None: each whole number one
            less or one more.
        inherited: initial weights from a trained network of the family. Arguments: its
            configuration and state, then the configuration and a freshly drawn state of the new
            network.
        exported: the network to export, such as with normalisations folded into convolutions. It
            computes the same and may share weights with its argument.
        alignment: a part of a picture gives the same result as in the whole picture if it begins at
            a multiple of this number of pixels.
        gathered: whether all statistics of the whole picture are computed by modules of
            `clapp.models.networks.whole`, which can gather them part by part.
        graph: the steps of the exported network as a `clapp.models.graph`, with the names of its
            state. Without them ONNX, written by torch, is the only format: the default returns
            None, and a NoStepsError says which step of a network is not known.
    """

    name: str
    config: type[C]
    build: "Callable[[C], nn.Module]"
    cost: Callable[[C], Cost]
    min_size: Callable[[C], int]
    receptive_field: Callable[[C], tuple[int, int]]
    is_local: Callable[[C], bool]
    words: Callable[[C], str]
    changes: Callable[[C], Iterable[Change]] | None = None
    inherited: Callable[[C, State, C, State], State] = overlapping
    exported: "Callable[[nn.Module], nn.Module]" = as_it_is
    alignment: Callable[[C], int] = anywhere
    gathered: bool = False
    graph: Callable[[C], Graph | None] = traced


FAMILIES: Registry[Family[Any]] = Registry("model family")
