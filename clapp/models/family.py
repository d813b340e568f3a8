"""A family of networks: one entry for all that the rest asks of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

from clapp.config import ModelConfig, model_config
from clapp.errors import ConfigError
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


def one_less(config: ModelConfig) -> Iterable[Change]:
    """Every change of a whole number in a configuration to one less, where that is possible."""
    values = config.model_dump()
    for key, value in values.items():
        if key.endswith("_channels") or isinstance(value, bool) or not isinstance(value, int):
            continue
        try:
            model_config(values | {key: value - 1})
        except ConfigError:
            continue
        yield f"{key} {value - 1}", {key: value - 1}


def overlapping(_: ModelConfig, weights: State, __: ModelConfig, fresh: State) -> State:
    """What two networks of a family have in common: see `clapp.models.overlap`."""
    from clapp.models.overlap import overlap  # loads torch

    return overlap(weights, fresh)


def as_it_is(net: "nn.Module") -> "nn.Module":
    """A network that is exported as it was trained."""
    return net


def anywhere(_: ModelConfig) -> int:
    """Parts of a picture may begin anywhere."""
    return 1


def traced(_: ModelConfig) -> None:
    """A network whose steps torch finds out."""


@dataclass(frozen=True)
class Family(Generic[C]):
    """A kind of networks. Functions take a configuration of the family.

    Nothing but `build`, `inherited` and `exported` may load torch: a search asks for the costs of
    hundreds of candidates.

    Attributes:
        name: what `model.family` calls it.
        config: the class of its section `model`, a subclass of `ModelConfig`. Its docstring says
            what the networks are. `canonical` and `widest` are methods of it.
        build: a new network, a `torch.nn.Module` that turns float32 (B, Cin, H, W) in [0, 1] into
            (B, Cout, H, W), not clamped, for all sizes from `min_size` on. It mixes no pictures of
            a batch.
        cost: its trainable parameters, and the FLOPs of its convolutions at 224x224, exactly.
        min_size: the smallest height and width in pixels that it accepts.
        receptive_field: how many pixels up and down, and left and right, an output pixel depends
            on; statistics of the whole picture are not counted.
        is_local: whether an output pixel depends on its receptive field alone.
        words: the network in words, such as "2 blocks of 4 channels, 3x3".
        changes: what may make a network smaller, in words and as keys.
        inherited: first weights from those of a trained network of the family: its configuration
            and state, then the configuration and a freshly drawn state of the new one.
        exported: the network as it is written for elsewhere, such as with normalisations folded
            into convolutions. It computes the same and may share weights with the one given.
        alignment: a part of a picture is computed as in the whole one where it begins at multiples
            of this, in pixels.
        gathered: whether all statistics of the whole picture are modules of
            `clapp.models.networks.whole`, so that parts of it are enough to compute them.
        graph: the steps of the exported network, with the names of its state; None: they cannot be
            written as `clapp.models.graph`, and ONNX is the only format, written by torch.
    """

    name: str
    config: type[C]
    build: "Callable[[C], nn.Module]"
    cost: Callable[[C], Cost]
    min_size: Callable[[C], int]
    receptive_field: Callable[[C], tuple[int, int]]
    is_local: Callable[[C], bool]
    words: Callable[[C], str]
    changes: Callable[[C], Iterable[Change]] = one_less
    inherited: Callable[[C, State, C, State], State] = overlapping
    exported: "Callable[[nn.Module], nn.Module]" = as_it_is
    alignment: Callable[[C], int] = anywhere
    gathered: bool = False
    graph: Callable[[C], Graph | None] = traced


FAMILIES: Registry[Family[Any]] = Registry("model family")
