"""Configurations of a search space as rows of numbers, for models that predict from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ABSENT = -1.0  # of a number whose condition does not hold

Row = NDArray[np.float32]


class Encoder:
    """A column for each number, one for each value of a choice, and the logarithms of the sizes."""

    def __init__(self, columns: Mapping[str, Mapping[str, Any]]) -> None:
        """`columns` are the parameters that a trial may have, each as a search space writes it."""
        self._space = columns

    def __call__(self, drawn: Mapping[str, Any], sizes: ArrayLike) -> Row:
        """The features of a configuration from its drawn keys and its sizes, all above zero."""
        features = [*np.log10(np.asarray(sizes, float))]
        for key, parameter in self._space.items():
            if parameter["type"] == "categorical":
                features += [key in drawn and drawn[key] == c for c in parameter["choices"]]
            elif key not in drawn:
                features.append(_ABSENT)
            else:
                features.append(np.log10(drawn[key]) if parameter.get("log") else drawn[key])
        return np.array(features, np.float32)
