"""The keys that the section `model` has in every family, and how the class of a family is found."""

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ValidationInfo

from clapp.config.choices import one_of, registered
from clapp.config.section import Section

Width = Annotated[int, Field(ge=1, le=1024)]
FAMILIES = "clapp.models.families"
"""Module of the registry of families. It imports the configuration, so it is looked up by name."""


class ModelConfig(Section):
    """The architecture of one network; each family has a subclass with keys of its own.

    A key without a default in the subclass has one in `default.yaml`.
    """

    PER_BLOCK: ClassVar[tuple[str, ...]] = ()
    """Keys that may hold a list, one entry for each of `num_layers` blocks."""

    family: Annotated[str, one_of(registered(FAMILIES, "known_families"))]
    input_channels: Width
    output_channels: Width

    @property
    def widest(self) -> int:
        """The largest number of channels that a training keeps for every pixel."""
        raise NotImplementedError(f"{type(self).__name__} does not say how wide it is")

    def canonical(self) -> Self:
        """The same network with every key that has no effect on it set to one fixed value.

        Two configurations describe the same function family exactly when these are equal.
        """
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """See pydantic; cached properties are worked out anew for the copy."""
        copy = super().model_copy(update=update, deep=deep)
        for cached in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[cached]
        return copy

    def __hash__(self) -> int:
        """Equal configurations have equal hashes, those with lists too."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return hash(tuple(tuple(v) if isinstance(v, list) else v for v in values))


def section_of(values: Any) -> type[ModelConfig]:
    """The class of a section `model`, by its family; that of the default where none is known."""
    name = values.get("family") if isinstance(values, dict) else None
    found: type[ModelConfig] = import_module(FAMILIES).section(name)
    return found


def of_family(values: Any, info: ValidationInfo) -> Any:
    """Validate a mapping of a section `model` by the class of its family."""
    if not isinstance(values, dict):
        return values
    return section_of(values).model_validate(values, context=info.context)
