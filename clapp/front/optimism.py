"""How optimistic a search was: the test loss of its models against their validation loss."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.system.files import dump_json, write_text
from clapp.system.intervals import quantile
from clapp.training.losses import positive
from clapp.training.losses.spread import Spread

TESTED = "tested.json"
"""In the results of a study: the losses of its models on both sets."""
FORMAT = 1


class Both(NamedTuple):
    """The loss of one model over the validation and over the test pictures."""

    validation: Spread
    test: Spread

    @property
    def ratio(self) -> float:
        """Test over validation loss."""
        return positive(self.test.mean) / positive(self.validation.mean)

    def document(self) -> dict[str, Any]:
        """For JSON, flat: what is known of both sets."""
        test = {"test_loss": self.test.mean, **self.test.document("test_")}
        test["test_low"], test["test_high"] = test.pop("test_loss_low"), test.pop("test_loss_high")
        return {**test, "test_ratio": self.ratio}


@dataclass(frozen=True)
class Optimism:
    """Test over validation loss, the geometric mean over models.

    Attributes:
        factor: of the models; `low` and `high` bound it with a confidence of 95 %, over pictures.
        models: how many there are.
        reference: the same of the reference, which the search did not choose; None: not known.
        relative: `factor` over `reference`, and its bounds: what is left when the test pictures
            are harder or easier than the validation pictures.
    """

    factor: float
    low: float
    high: float
    models: int
    reference: float | None = None
    relative: tuple[float, float, float] | None = None

    def words(self) -> str:
        """In a sentence."""
        many = "the model" if self.models == 1 else f"the {self.models} models"
        text = (
            f"test loss over validation loss: {self.factor:.2f} (95 % interval {self.low:.2f} to "
            f"{self.high:.2f}), the geometric mean of {many} of the front"
        )
        if self.reference is None or self.relative is None:
            return text
        mean, low, high = self.relative
        return (
            f"{text}; {self.reference:.2f} for the reference, which was not chosen by its loss; "
            f"relative to that {mean:.2f} ({low:.2f} to {high:.2f}), of which choosing is to blame "
            "for what is above 1"
        )

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "factor": self.factor,
            "low": self.low,
            "high": self.high,
            "models": self.models,
            "reference": self.reference,
            "relative": self.relative,
        }


class FrontTest(NamedTuple):
    """The losses of a front on validation and test pictures.

    Attributes:
        models: by trial; with the reference of the study.
        optimism: what follows from them; None: too little is known.
        notes: which models are missing, and why.
    """

    models: dict[int, Both]
    optimism: Optimism | None
    notes: list[str]


def optimism(
    models: Mapping[int, Both], front: Sequence[int], reference: int | None
) -> Optimism | None:
    """How optimistic the validation losses of a front are.

    The intervals are Student's on the scale of logarithms (delta method), with the degrees of
    freedom of Welch, as the two sets have pictures of their own. All models see the same pictures,
    so what makes a picture hard for all of them cancels out against the reference.

    Args:
        models: the losses of trials on both sets.
        front: the trials that the search chose.
        reference: the trial of the reference network.

    Returns:
        None: no member of the front has been measured, or a set has a single picture.
    """
    chosen = [models[n] for n in front if n in models and n != reference]
    known = models.get(reference) if reference is not None else None
    rows = [*chosen, *([known] if known is not None else [])]
    if not chosen or {len(s.parts) for both in rows for s in both} & {0, 1}:
        return None
    if len({tuple(len(s.parts) for s in both) for both in rows}) > 1:
        return None  # measured on different sets
    valid, test = (np.stack([_relative(both[k]) for both in rows]) for k in (0, 1))
    logs = np.log([both.ratio for both in rows])
    most = len(chosen)
    factor = _bounded(logs[:most].mean(), valid[:most].mean(0), test[:most].mean(0))
    if known is None:
        return Optimism(*factor, most)
    relative = _bounded(
        logs[:most].mean() - logs[-1],
        valid[:most].mean(0) - valid[-1],
        test[:most].mean(0) - test[-1],
    )
    return Optimism(*factor, most, known.ratio, relative)


def _relative(one: Spread) -> NDArray[np.float64]:
    """The loss of each picture relative to the mean: what it adds to the logarithm of that."""
    parts = np.asarray(one.parts)
    relative: NDArray[np.float64] = parts / max(float(parts.mean()), positive(0))
    return relative


def _bounded(
    log: float, valid: NDArray[np.float64], test: NDArray[np.float64]
) -> tuple[float, float, float]:
    """A factor and its interval, from its logarithm and what each picture adds to that."""
    squares = [float(np.var(values, ddof=1)) / len(values) for values in (valid, test)]
    total = sum(squares)
    freedom = total**2 / max(
        sum(s**2 / (len(v) - 1) for s, v in zip(squares, (valid, test), strict=True)), 1e-300
    )
    half = quantile(max(freedom, 1.0)) * math.sqrt(total)
    return math.exp(log), math.exp(log - min(half, 50.0)), math.exp(log + min(half, 50.0))


def read_tested(folder: Path) -> dict[int, Both]:
    """What was measured before of a study's models, by trial."""
    return {number: both for number, (_, both) in read_measured(folder).items()}


def read_measured(folder: Path) -> dict[int, tuple[str, Both]]:
    """The same with a digest of the sets that it was measured on."""
    found = {}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        document = json.loads((folder / TESTED).read_text(encoding="utf-8"))
        if document["format"] == FORMAT:
            for number, entry in document["models"].items():
                both = Both(_spread(entry["validation"]), _spread(entry["test"]))
                found[int(number)] = str(entry["sets"]), both
    return found


def _spread(values: Mapping[str, Any]) -> Spread:
    parts = tuple(float(part) for part in values["parts"])
    return Spread(float(values["loss"]), int(values["pictures"]), int(values["crops"]), parts)


def write_measured(folder: Path, stored: Mapping[int, tuple[str, Both]]) -> None:
    """Keep it in the results of the study; results that may only be read stay as they are."""
    models = {
        str(number): {
            "sets": sets,
            "validation": {"loss": both.validation.mean, **both.validation.facts()},
            "test": {"loss": both.test.mean, **both.test.facts()},
        }
        for number, (sets, both) in sorted(stored.items())
    }
    with suppress(OSError):
        write_text(folder / TESTED, dump_json({"format": FORMAT, "models": models}) + "\n")
