"""Target profiles: the operators that a target does not support, and a network's problems with it.

A profile is a file beside this one. Its `refuses` lists facts: an `operator` of ONNX, a `padding`
mode (reflect or edge) or `groups` of convolutions that are neither one nor one a channel.
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import Field

from clapp.config.section import Section
from clapp.errors import ConfigError
from clapp.models.graph.footprint import operators_of
from clapp.models.graph.nodes import Graph, Node
from clapp.system.strict_yaml import parse_yaml
from clapp.system.suggest import hint

FITTED = ("root", "gelu", "tanh", "sigmoid", "swish")
"""Functions that are written as straight pieces where an operator of theirs does not run."""
_BY_RELU = ("abs", "leaky_relu")


class Fact(Section):
    """One operator, padding mode or kind of groups that a target does not support."""

    operator: str | None = None
    padding: Literal["reflect", "edge"] | None = None
    groups: Literal["some"] | None = None
    why: str
    source: str
    date: str

    def concerns(self, graph: Graph, node: Node, names: tuple[str, ...]) -> bool:
        """Whether this fact excludes a step that is written with the operators `names`."""
        if self.operator is not None:
            return self.operator in names
        if self.padding is not None:
            return False  # a border is written by Slice and Concat
        if node.kind != "conv":
            return False
        return node.groups not in (1, graph.channels(node.inputs[0])) or (
            node.groups > 1 and node.groups != node.channels
        )


class Profile(Section):
    """A target."""

    description: str
    types: list[Literal["float32", "int8", "16x8"]]
    """Types of values that the target computes with, the best first."""
    sizes: Literal["free", "fixed"]
    formats: list[str]
    """Formats that `clapp export --target` writes beside ONNX."""
    refuses: Annotated[list[Fact], Field(default_factory=list)]

    @property
    def refused(self) -> set[str]:
        """Operators that do not run there."""
        return {fact.operator for fact in self.refuses if fact.operator is not None}

    @property
    def multiplies_channels(self) -> bool:
        """Whether a convolution of one group a channel may have several results for each."""
        return not any(fact.groups for fact in self.refuses)

    def in_the_way(self, graph: Graph, node: Node) -> set[str]:
        """The operators of a step that do not run there."""
        return self.refused.intersection(operators_of(graph, node))

    @property
    def mirrors_by_slices(self) -> bool:
        """Whether mirrored and repeated borders are written by Slice and Concat for it."""
        return any(fact.padding for fact in self.refuses)

    def _written(self, graph: Graph, node: Node) -> tuple[str, ...]:
        """The operators of a step, rewritten where that helps; see `rewrite.py`."""
        names, refused = operators_of(graph, node), self.in_the_way(graph, node)
        if not refused:
            return names
        if node.kind == "function" and node.function in _BY_RELU:
            return "Relu", "Conv", "Mul", "Add"
        if node.kind == "function" and node.function in FITTED:
            return "Conv", "Relu"
        if node.kind == "maximum":
            last = ("Mul",) if "Div" in refused else ("Div",)
            return "Relu", "Conv", "GlobalMaxPool", "Add", *last
        return names

    def problems(self, graph: Graph) -> Iterator[str]:
        """A message for every unsupported step: operator, step, reason and source."""
        for node in graph.nodes:
            names = self._written(graph, node)
            for fact in self.refuses:
                if fact.concerns(graph, node, names):
                    what = fact.operator or "Conv"
                    step = node.function or node.kind
                    yield f"{what} of the step {step}: {fact.why} ({fact.source}, {fact.date})"


def known_targets() -> list[str]:
    """The names of the profiles."""
    folder = files("clapp.models.targets")
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if ".yaml" in f.name)


@cache
def find_target(name: str) -> Profile:
    """The profile called `name`.

    Raises:
        ConfigError: there is no such profile; the message lists all.
    """
    known = known_targets()
    if name not in known:
        raise ConfigError(
            f"target {name!r} is not known; {hint(name, known)}known: {', '.join(known)}"
        )
    text = (files("clapp.models.targets") / f"{name}.yaml").read_text(encoding="utf-8")
    return Profile.model_validate(parse_yaml(text, f"target {name}"))
