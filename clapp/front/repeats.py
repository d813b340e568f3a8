"""Repeated trainings of a study's trials: what is stored of them, and what they say of the front.

`clapp repeat` trains a configuration from several seeds. The loss that a search reports is the
lowest of many and so optimistic; the repetitions are drawn after the choice and are not.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from clapp.front.objectives import loss_text, positive
from clapp.system.intervals import Interval, draws_of_mean, log_interval

if TYPE_CHECKING:
    from optuna import Study

    from clapp.front.outcomes import Candidate

_ATTRIBUTE = "repeats:{:05d}"
_NAME = re.compile(r"repeats:(\d{5,})")
DRAWS = 4000
"""Draws of the true means, by which the chance to be on the front is found."""


@dataclass(frozen=True)
class Repeats:
    """Trainings of one trial's configuration from other seeds.

    Attributes:
        trial: its number in the study.
        seeds: of the trainings; `losses` and `seconds` of each, in the same order. A loss is None
            where the training diverged.
        inherited: whether each began with the weights of the trial's parent, as the trial did.
        stopped: whether fewer seeds than asked for were trained, since it was clearly beaten.
    """

    trial: int
    seeds: Sequence[int] = ()
    losses: Sequence[float | None] = ()
    seconds: Sequence[float] = ()
    inherited: bool = False
    stopped: bool = False

    @property
    def finite(self) -> list[float]:
        """The losses of the trainings that did not diverge, above zero."""
        return [positive(loss) for loss in self.losses if loss is not None]

    @property
    def diverged(self) -> int:
        """How many trainings diverged; they are in no mean."""
        return len(self.losses) - len(self.finite)

    @property
    def interval(self) -> Interval | None:
        """The mean loss over seeds with its 95 % interval; None: every training diverged."""
        return log_interval(self.finite) if self.finite else None

    def document(self) -> dict[str, Any]:
        """The repetitions as JSON documents show them."""
        found = self.interval
        ends = [found.low, found.high] if found and found.size > 1 else None
        return {
            "seeds": len(self.losses),
            "diverged": self.diverged,
            "mean": found and found.mean,
            "interval": ends,
            "stopped": self.stopped,
        }

    def describe(self) -> str:
        """The mean and its interval in words: "0.0012 [0.0011, 0.0014], 10 seeds"."""
        found = self.interval
        if found is None:
            return f"all {len(self.losses)} seeds diverged"
        ends = f" [{found.low:.2g}, {found.high:.2g}]" if found.size > 1 else ""
        lost = f", {self.diverged} diverged" if self.diverged else ""
        seeds = f"{found.size} seed{'s' * (found.size != 1)}"
        return f"{loss_text(found.mean)}{ends}, {seeds}{lost}"


def expected_loss(candidate: "Candidate") -> float:
    """The loss to expect of a candidate: its mean over seeds where it was repeated, else its own.

    Whatever chooses among models asks this, not `Candidate.loss`.
    """
    found = candidate.repeats.interval if candidate.repeats is not None else None
    return candidate.loss if found is None else found.mean


def repeats_of(study: "Study") -> dict[int, Repeats]:
    """The repetitions of a study's trials, by the numbers of the trials."""
    names = [field.name for field in fields(Repeats)]
    found = {}
    for key, value in study.user_attrs.items():
        match = _NAME.fullmatch(key)
        if match is not None and isinstance(value, Mapping):
            known = {name: value[name] for name in names if name in value}
            found[int(match[1])] = Repeats(**{**known, "trial": int(match[1])})
    return found


def store_repeats(study: "Study", repeats: Repeats) -> None:
    """Write the repetitions of one trial into the study, over those that were there."""
    document = {field.name: getattr(repeats, field.name) for field in fields(Repeats)}
    study.set_user_attr(_ATTRIBUTE.format(repeats.trial), document)


def front_chances(found: Sequence["Candidate"], names: Sequence[str]) -> dict[int, float]:
    """The chance that each repeated candidate is on the front of all of them, by trial.

    A candidate is on it unless another one is no worse in every other objective and has a lower
    true mean loss. Those objectives count as known; the means are drawn as their seeds allow.
    Candidates with fewer than two finite losses are left out.
    """
    known = [c for c in found if c.repeats is not None and len(c.repeats.finite) > 1]
    random = np.random.default_rng(0)
    means = [draws_of_mean(c.repeats.finite, DRAWS, random) for c in known if c.repeats]
    others = [name for name in names if name != "loss"]
    chances = {}
    for mean, candidate in zip(means, known, strict=True):
        beaten = np.zeros(DRAWS, bool)
        for rival_mean, rival in zip(means, known, strict=True):
            no_larger = all(rival.values[name] <= candidate.values[name] for name in others)
            if rival is not candidate and no_larger:
                beaten |= rival_mean < mean
        chances[candidate.trial] = 1 - float(beaten.mean())
    return chances
