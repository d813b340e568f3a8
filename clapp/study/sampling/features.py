"""Configurations of a search space as rows of numbers, for models that predict from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ABSENT = -1.0  # value of a number whose condition does not hold; all others are from 0 to 1

Row = NDArray[np.float32]


class Encoder:
    """Encodes a configuration: a column for each number and for each choice, and log sizes.

    Numbers are scaled to 0 to 1 within their range, on their (linear or log) scale.
    """

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
                features.append(_place(drawn[key], parameter))
        return np.array(features, np.float32)


def _place(value: float, parameter: Mapping[str, Any]) -> float:
    scale = np.log10 if parameter.get("log") else float
    low, high = scale(parameter["low"]), scale(parameter["high"])
    return float((scale(value) - low) / (high - low)) if high > low else 0.0
