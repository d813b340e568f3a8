"""The families of networks, by the names that `model.family` takes."""

from typing import Any

from clapp.config.model import ModelConfig
from clapp.models.families.can import CAN
from clapp.models.families.filternet import FILTERNET
from clapp.models.families.guided import GUIDED
from clapp.models.families.statistics import GLOBAL
from clapp.models.families.u2net import U2NET
from clapp.models.families.unet import UNET
from clapp.models.family import FAMILIES, Family

for _family in (FILTERNET, CAN, UNET, U2NET, GUIDED, GLOBAL):
    FAMILIES.add(_family.name, _family)


def register_family(family: Family[Any]) -> Family[Any]:
    """Make a family of networks known to configurations; see `Family`.

    Raises:
        UserError: its name is taken or not a name.
    """
    return FAMILIES.add(family.name, family)


def known_families() -> list[str]:
    """The values that `model.family` may have."""
    return FAMILIES.names()


def family_of(config: ModelConfig) -> Family[Any]:
    """The family that a configuration belongs to."""
    return FAMILIES.find(config.family)


def section(name: Any) -> type[ModelConfig]:
    """The class of the section `model` of a family; that of a FilterNet for an unknown one."""
    known = isinstance(name, str) and name in FAMILIES
    found: type[ModelConfig] = (FAMILIES[name] if known else FILTERNET).config
    return found
