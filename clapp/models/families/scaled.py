"""The base of families that let settings of the filter scale and shift features."""

from typing import Literal, Self

from pydantic import model_validator

from clapp.config.model import ModelConfig
from clapp.filters.learned.setting import PICTURE

SCALED = (
    "its settings scale and shift features (settings scale), for which there is no step; "
    "allowed: channel"
)
"""Why the steps of such a network are not known."""


class ScaledConfig(ModelConfig):
    """A network that takes settings as channels behind the picture, or beside it.

    Attributes:
        settings: how it takes what lies behind the channels of the picture; each family says what
            `scale` means there.
    """

    settings: Literal["channel", "scale"] = "channel"

    @model_validator(mode="after")
    def _has_settings(self) -> Self:
        if self.settings == "scale" and self.input_channels <= PICTURE:
            raise ValueError(
                "settings scale is not allowed without settings; allowed: channel, or a "
                "`parameter` of the filter, each of which is a channel behind the three of the "
                "picture"
            )
        return self

    @property
    def scaled_by(self) -> int:
        """How many settings scale and shift features; 0 where they are channels like any other."""
        return self.input_channels - PICTURE if self.settings == "scale" else 0
