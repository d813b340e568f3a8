"""The filter of pairs of pictures, known by its results alone: `target_filter: paired`.

The source `pairs:` (`clapp.images.paired.pairs`) gives an input and its result as one picture of
six channels. The filter returns the last three of them; a network sees the first three.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from clapp.errors import ConfigError
from clapp.filters.base import CHANNELS, FilterFunction, Picture, Target, luma
from clapp.filters.parameters import Choice, complete

PAIRED = "paired"
CHANNELS_OF_PAIR = 6
_PARAMETERS = {CHANNELS: Choice((3, 1))}


def is_paired(spec: Any) -> bool:
    """Whether a specification is that of pairs."""
    return (spec.get("name") if isinstance(spec, Mapping) else spec) == PAIRED


def paired(given: Mapping[str, Any]) -> tuple[FilterFunction, int]:
    """The function that returns the results of pairs, and its channels: colour, or 1: grey.

    Raises:
        ConfigError: an unknown parameter, or a value that is not allowed.
    """
    channels = complete(PAIRED, _PARAMETERS, given)[CHANNELS]

    def call(image: Picture) -> Target:
        if image.shape[2] != CHANNELS_OF_PAIR:
            raise ConfigError(
                f"filter {PAIRED}: it is known for the pictures of a source pairs:INPUT,TARGET "
                "alone, and cannot be applied to others"
            )
        result = np.ascontiguousarray(image[..., 3:])
        return result if channels == 3 else luma(result)

    return call, channels
