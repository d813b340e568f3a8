"""How often a picking rule chooses the same model when the losses of the front are resampled."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.errors import UserError
from clapp.front.outcomes import Candidate
from clapp.front.pick.choose import Finished, pick
from clapp.system.intervals import draws_of_mean

DRAWS = 500
"""Resamplings: a share of one half is then known to five hundredths."""


class Stability(NamedTuple):
    """How often a rule chose the model, and which others it chose.

    Attributes:
        share: of the resamplings in which it chose the same model.
        others: trial -> share, the most frequent first.
        draws: resamplings.
        resampled: what was: "validation pictures", "repeats", or both.
    """

    share: float
    others: dict[int, float]
    draws: int
    resampled: str

    def words(self) -> str:
        """In a sentence: "chosen in 83 % of 500 resamplings of the validation pictures"."""
        text = f"chosen in {100 * self.share:.0f} % of {self.draws} resamplings of the "
        text += self.resampled
        if self.others:
            number, share = next(iter(self.others.items()))
            text += f"; trial {number} in {100 * share:.0f} %"
        return text

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict() | {"others": {str(k): v for k, v in self.others.items()}}


def stability(text: str, found: Finished) -> Stability | None:
    """Resample the losses of the front and apply the rule `text` to each result.

    Pictures are drawn with replacement, the same for all models, since models find the same
    pictures hard; where a model was repeated, its mean over seeds is drawn too. A draw in which
    nothing satisfies the rule counts as another choice. The same study gives the same shares.

    Returns:
        None: a trial was asked for by number, or nothing is known of the spread of the losses.

    Raises:
        UserError: see `clapp.front.pick.pick`.
    """
    chosen = pick(text, found)
    models = list(found.front)
    factors = _factors(models)
    if factors is None or text.strip().startswith("trial"):
        return None
    if all(model.trial != chosen.trial for model in models):
        return None
    counts: dict[int | None, int] = {}
    for row in factors:
        drawn = [_with_loss(m, m.loss * f) for m, f in zip(models, row, strict=True)]
        try:
            number: int | None = pick(text, Finished(drawn, drawn)).trial
        except UserError:
            number = None
        counts[number] = counts.get(number, 0) + 1
    shares = {number: count / len(factors) for number, count in counts.items()}
    others = {n: s for n, s in shares.items() if n is not None and n != chosen.trial}
    ordered = dict(sorted(others.items(), key=lambda item: (-item[1], item[0])))
    return Stability(shares.get(chosen.trial, 0.0), ordered, len(factors), _resampled(models))


def _with_loss(model: Candidate, loss: float) -> Candidate:
    values = model.values | ({"loss": loss} if "loss" in model.values else {})
    return replace(model, loss=loss, values=values)


def _resampled(models: Sequence[Candidate]) -> str:
    what = ["validation pictures"] * any(_parts(m) is not None for m in models)
    repeated = any(m.repeats is not None and len(m.repeats.finite) > 1 for m in models)
    what += ["repetitions"] * repeated
    return " and ".join(what)


def _factors(models: Sequence[Candidate]) -> NDArray[np.float64] | None:
    """By what the losses are multiplied, (draws, models); None: nothing is known of any."""
    draw = np.random.default_rng(0)
    factors = np.ones((DRAWS, len(models)))
    groups: dict[int, NDArray[np.int64]] = {}
    known = False
    for column, model in enumerate(models):
        parts = _parts(model)
        if parts is not None:
            size = len(parts)
            if size not in groups:  # the same pictures for all models
                groups[size] = draw.integers(0, size, (DRAWS, size))
            factors[:, column] *= _relative(parts, groups[size])
            known = True
        losses = model.repeats.finite if model.repeats is not None else []
        if len(losses) > 1:
            means = draws_of_mean(losses, DRAWS, draw)  # logarithms
            factors[:, column] *= np.exp(means - np.log(losses).mean())
            known = True
    return factors if known else None


def _relative(values: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    mean = values.mean()
    return values[places].mean(1) / mean if mean > 0 else np.ones(len(places))


def _parts(model: Candidate) -> NDArray[np.float64] | None:
    if model.spread is None or len(model.spread.parts) < 2:
        return None
    return np.asarray(model.spread.parts)
