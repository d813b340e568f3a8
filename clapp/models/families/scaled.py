"""Families that let settings of the filter scale and shift features."""

from typing import Protocol, TypeVar

PICTURE = 3
"""Channels of the picture, before those of the settings."""


class Scaled(Protocol):
    """A section `model` with the key `settings`."""

    @property
    def settings(self) -> str:
        """ "channel" or "scale"."""
        ...

    @property
    def input_channels(self) -> int:
        """Of picture and settings together."""
        ...


S = TypeVar("S", bound=Scaled)


def scaled_by(config: Scaled) -> int:
    """How many settings scale and shift features; 0 where they are channels like any other."""
    return config.input_channels - PICTURE if config.settings == "scale" else 0


def check_scaled(config: S) -> S:
    """The configuration, if there is something to scale by.

    Raises:
        ValueError: `settings: scale` without settings.
    """
    if config.settings == "scale" and config.input_channels <= PICTURE:
        raise ValueError(
            "settings scale is not allowed without settings; allowed: channel, or a `parameter` of "
            "the filter, each of which is a channel behind the three of the picture"
        )
    return config
