"""Pruners that are only compared with ours: no study file takes them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from clapp.study.pruning.pruners import Pruner, Record, Rungs, Verdict

_UNKNOWN = float("nan")


class Median(Rungs):
    """Stops a trial whose loss is above the median at its rung, regardless of size."""

    name: Literal["median"] = "median"
    min_finished: Annotated[int, Field(ge=1)] = 10

    def verdict(self, trial: Record, others: Sequence[Record]) -> Verdict | None:
        """Stop a trial that is worse than the median of the others at the same step."""
        step, l2 = max(trial.curve.items())
        losses = [record.curve[step] for record in others if step in record.curve]
        if len(losses) < self.min_finished or l2 <= (bar := float(np.median(losses))):
            return None
        return Verdict(step, l2, bar, _UNKNOWN)


class MedianRank(Rungs):
    """Stops a trial whose non-dominated rank in loss and sizes is above the median at its rung.

    What OptunaHub's `multi_metric_pruner` with `joint=True` makes of Optuna's MedianPruner, which
    compares with finished trials only, from the fifth on, and looks at the trial's best rung.
    """

    name: Literal["median-rank"] = "median-rank"
    min_finished: Annotated[int, Field(ge=1)] = 5

    def verdict(self, trial: Record, others: Sequence[Record]) -> Verdict | None:
        """Stop a trial whose lowest rank so far is worse than the median of the others here."""
        ranked = [
            self._ranks(trial, others, step) for step in trial.curve if self._was_rung(trial, step)
        ]
        best, (_, here) = min(own for own, _ in ranked), ranked[-1]
        if len(here) < self.min_finished or best <= np.median(here):
            return None
        return Verdict(*max(trial.curve.items()), _UNKNOWN, _UNKNOWN)

    def _was_rung(self, trial: Record, step: int) -> bool:
        return self.is_rung(max((s for s in trial.curve if s < step), default=0), step)

    def _ranks(
        self, trial: Record, others: Sequence[Record], step: int
    ) -> tuple[int, Sequence[int]]:
        """Rank of the trial at a step, and of the others that got there."""
        from moocore import pareto_rank  # type: ignore[import-untyped]

        there = [trial, *(record for record in others if step in record.curve)]
        own, *rest = pareto_rank(np.array([(r.curve[step], *r.sizes) for r in there], float))
        return int(own), rest


class FirstRung(Rungs):
    """All trials are trained to the first rung, and those on its front to the end.

    Whether a trial is on the front at the rung, in loss there and sizes, is seen from the trials
    that came there before it.
    """

    name: Literal["first-rung"] = "first-rung"

    def is_rung(self, before: int, step: int) -> bool:
        """Whether this is the first validation at the only rung or after it."""
        return before < self.warmup <= step

    def verdict(self, trial: Record, others: Sequence[Record]) -> Verdict | None:
        """Stop a trial that another one beats at the same step with no larger sizes."""
        step, l2 = max(trial.curve.items())
        beaten = any(
            record.curve.get(step, float("inf")) <= l2 and record.fits_in(trial.sizes)
            for record in others
        )
        return Verdict(step, l2, _UNKNOWN, _UNKNOWN) if beaten else None


ONLY_HERE: dict[str, Callable[[], Pruner]] = {
    "median": Median,
    "median-rank": MedianRank,
    "first-rung": FirstRung,
}
