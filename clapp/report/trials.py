"""A trial in a report: outcome, choices, learning curve."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial, TrialState

from clapp.front.record import TrialRecord, ended, record_of, started
from clapp.front.trials import is_lost, is_trained
from clapp.study.plan.space import RESERVED
from clapp.study.storage.keep import trial_folder

OUTCOMES = (
    "on the front",
    "trained",
    "over a limit",
    "stopped early",
    "skipped",
    "failed",
    "interrupted",
    "running",
)
"""The outcomes of trials, best first."""
CURVE_POINTS = 60


class Validation(NamedTuple):
    """One point of a learning curve: number of steps, and validation L2 after them."""

    step: int
    l2: float


@dataclass(frozen=True)
class Trial:
    """A trial with any outcome.

    Attributes:
        drawn: search-space parameter -> value.
        choices: `drawn`, and further dotted keys in which its configuration differs from the
            study's.
        reason: why it was skipped or failed.
        start, end: in this machine's time zone.
    """

    number: int
    outcome: str
    worker: str
    start: datetime | None
    end: datetime | None
    loss: float | None
    params: int | None
    flops: int | None
    drawn: dict[str, Any]
    choices: dict[str, Any]
    baseline: str | None
    reason: str | None
    curve: list[Validation]

    @property
    def name(self) -> str:
        """Its name in a sentence."""
        return f"trial {self.number}" + (f" ({self.baseline})" if self.baseline else "")


def outcome(trial: FrozenTrial, within: set[int], on_front: set[int]) -> str:
    """The outcome of a trial; `within` are the numbers of the trials within the limits."""
    if trial.number in on_front:
        return "on the front"
    match trial.state:
        case TrialState.COMPLETE:
            return "trained" if trial.number in within else "over a limit"
        case TrialState.PRUNED:
            return "stopped early" if record_of(trial).skipped is None else "skipped"
        case TrialState.FAIL:
            return "interrupted" if is_lost(trial) else "failed"
    return "running"


def read_trial(trial: FrozenTrial, became: str, folder: Path, common: dict[str, Any]) -> Trial:
    """Read a trial; `common` are the dotted keys of its study's configuration."""
    record = record_of(trial)
    return Trial(
        number=trial.number,
        outcome=became,
        worker=record.worker or "",
        start=started(trial),
        end=ended(trial),
        loss=record.loss,
        params=record.params,
        flops=record.flops,
        drawn=dict(trial.params),
        choices=_choices(record.config or {}, trial.params, common),
        baseline=record.baseline,
        reason=record.skipped or record.failed,
        curve=_curve(record, trial_folder(folder, trial.number)) if is_trained(trial) else [],
    )


def _choices(
    config: Mapping[str, Any], drawn: Mapping[str, Any], common: Mapping[str, Any]
) -> dict[str, Any]:
    """The keys in which a trial differs from its study, without seeds and fixed keys."""
    own = {key: value for key, value in config.items() if key not in common or common[key] != value}
    return {key: v for key, v in {**drawn, **own}.items() if key not in RESERVED}


def _curve(record: TrialRecord, folder: Path) -> list[Validation]:
    """The learning curve from the storage, or else from the trial's folder, thinned out."""
    points: Sequence[Validation] = []
    if record.curve:
        points = [Validation(int(step), l2) for step, _, l2 in record.curve]
    else:
        stored = read_json(folder / "curve.json")
        if isinstance(stored, list):
            points = [Validation(point["step"], point["l2"]) for point in stored]
    points = [point for point in points if point.l2 is not None]
    step = -(-len(points) // CURVE_POINTS) or 1
    return [*points[:-1:step], *points[-1:]]


def read_json(path: Path) -> Any:
    """The content of a file, or None where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
