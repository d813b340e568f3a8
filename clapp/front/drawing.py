"""The content of every drawing of a front: models, positions, scales and labels.

Terminal, dashboard and report share it, and draw it with their own means.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from clapp.front.objectives import objective, positive
from clapp.front.outcomes import Candidate
from clapp.models.words import in_words

# Margin beyond the outermost points: as a share, and at least in decades.
_MARGIN, _LEAST_MARGIN = 0.05, 0.06
_FEW_DECADES = 2.2
"""Up to this many decades, 1, 2 and 5 times each power of ten are labelled, otherwise only the
power."""
_DIGITS = 6
_WRAP = 60


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis.

    Attributes:
        heading: its title.
        low, high: its ends, as powers of ten.
        counts: whether its values are whole numbers, written with k, M or G.
    """

    heading: str
    low: float
    high: float
    counts: bool = False

    @classmethod
    def around(cls, heading: str, values: Iterable[float], *, counts: bool = False) -> "Scale":
        """A scale that contains all `values`; zero is placed like the smallest number, `ZERO`."""
        logs = [math.log10(positive(value)) for value in values] or [0.0, 1.0]
        low, high = min(logs), max(logs)
        margin = max(_MARGIN * (high - low), _LEAST_MARGIN)
        return cls(heading, round(low - margin, 4), round(high + margin, 4), counts)

    def axis(self) -> dict[str, Any]:
        """The axis as a plotly document."""
        decades = self.high - self.low - 2 * _LEAST_MARGIN
        return {
            "type": "log",
            "title": {"text": self.heading},
            "range": [self.low, self.high],
            "dtick": 1 if decades > _FEW_DECADES else "D2",
            "tickformat": "~s" if self.counts else "~g",
        }


def scale_of(name: str, values: Iterable[float]) -> Scale:
    """The scale of an objective."""
    return Scale.around(objective(name).title, values, counts=name in ("params", "flops"))


@dataclass(frozen=True)
class Drawing:
    """Models of a study as points: the loss over another objective.

    Attributes:
        name: the objective from left to right.
        others: trained models that are neither on the front nor the reference.
        front: models of the front, sorted by parameters.
    """

    name: str
    x: Scale
    y: Scale
    others: Sequence[Candidate]
    front: Sequence[Candidate]
    reference: Candidate | None

    def points(self, models: Sequence[Candidate]) -> list[tuple[float, float]]:
        """The positions of models, as numbers above zero."""
        return [(place(model, self.name), significant(model.loss)) for model in models]


def drawing(
    found: Sequence[Candidate],
    front: Sequence[Candidate],
    reference: Candidate | None,
    name: str = "params",
    beside: Sequence[float] = (),
) -> Drawing:
    """The front of a study, the loss over the objective `name`.

    Args:
        found: every trained model within the limits.
        front: those of them on the front.
        beside: further values that the scale of `name` must contain.
    """
    apart = {one.trial for one in front} | ({reference.trial} if reference else set())
    others = [one for one in found if one.trial not in apart]
    shown = [*others, *front, *([reference] if reference else [])]
    across = [*(place(one, name) for one in shown), *beside]
    return Drawing(
        name,
        scale_of(name, across),
        scale_of("loss", (one.loss for one in shown)),
        others,
        front,
        reference,
    )


def place(model: Candidate, name: str) -> float:
    """The value of an objective, rounded for a smaller file, and above zero."""
    return significant(model.shown()[name])


def significant(value: float) -> float:
    """A number above zero with a few digits."""
    return positive(float(f"{value:.{_DIGITS}g}"))


def sayings(model: Candidate, *, words: bool) -> list[str]:
    """Lines about a model: its name, its figures and, optionally, its network in words."""
    name = f"trial {model.trial}" + (f", {model.baseline}" if model.baseline else "")
    said = textwrap.wrap(in_words(model.config), _WRAP) if words else []
    return [name, model.figures(), *said]
