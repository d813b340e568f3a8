"""The ledger of a study: the time of its workers by activity, and the cost of early stopping."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from clapp.front.outcomes import front_of
from clapp.front.record import ended, record_of, started
from clapp.front.trials import is_trained
from clapp.system.files import dump_json, write_text

if TYPE_CHECKING:
    from optuna import Study

CONFIDENCE = 0.95
_WORK = {"decode": "decoding", "data": "pictures", "step": "training", "validate": "validating"}


def ledger(study: "Study") -> dict[str, Any]:
    """Seconds of all workers by activity, and the audit of early stopping.

    Returns:
        `seconds`: name -> seconds, which add up to `total`, the time from the first to the last
        trial of each worker; `workers`, how many there were; `outcomes`: seconds of whole trials by
        what became of them; `stopped` trials, and the `saved_seconds` they would have gone on for;
        `audit`, see `audit`.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    spans = _spans(trials)
    seconds = dict.fromkeys(("sampling", *_WORK.values(), "keeping"), 0.0)
    for trial in trials:
        timings = record_of(trial).timings or {}
        seconds["sampling"] += timings.get("sample", 0.0)
        seconds["keeping"] += timings.get("keep", 0.0)
        for part, name in _WORK.items():
            seconds[name] += timings.get(part, 0.0)
    total = sum((end - start).total_seconds() for start, end in spans.values())
    stopped = [record for record in map(record_of, trials) if record.stopped is not None]
    busy = sum(_length(t) for t in trials)
    # This includes lost and failed trials, which have no timings, storing, and untimed work.
    seconds["storing and other"] = max(busy - sum(seconds.values()), 0.0)
    seconds["idle"] = max(total - busy, 0.0)
    return {
        "workers": len(spans),
        "total": round(total, 3),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "outcomes": {name: round(value, 3) for name, value in _outcomes(trials).items()},
        "stopped": len(stopped),
        "saved_seconds": round(sum(record.saved_seconds or 0.0 for record in stopped), 3),
        "audit": audit(trials, {one.trial for one in front_of(study)}),
    }


def write_ledger(folder: Path, study: "Study") -> None:
    """Write `ledger.json` into `folder`."""
    write_text(folder / "ledger.json", dump_json(ledger(study)) + "\n")


def audit(trials: Iterable[FrozenTrial], front: set[int]) -> dict[str, Any] | None:
    """Estimate how many stopped trials would have joined the front, from a sample that ran on.

    Returns:
        None without any. `audited` trials ran on although due to be stopped, of which `joined` are
        on the front; `share` with its exact 95 % confidence `interval` (Clopper and Pearson, 1934);
        `estimate`, the same share of the stopped trials.
    """
    trials = list(trials)
    audited = [t for t in trials if _is_audited(t) and t.state == TrialState.COMPLETE]
    if not audited:
        return None
    from scipy.stats import binomtest  # type: ignore[import-untyped]  # takes half a second

    joined = sum(t.number in front for t in audited)
    low, high = binomtest(joined, len(audited)).proportion_ci(CONFIDENCE)
    share = joined / len(audited)
    stopped = sum(record_of(t).stopped is not None for t in trials)
    return {
        "audited": len(audited),
        "joined": joined,
        "share": share,
        "interval": [float(low), float(high)],
        "estimate": share * stopped,
    }


def _outcomes(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    seconds = dict.fromkeys(("to the end", "stopped early", "audited", "skipped", "failed"), 0.0)
    for trial in trials:
        seconds[_outcome(trial)] += _length(trial)
    return seconds


def _outcome(trial: FrozenTrial) -> str:
    if trial.state == TrialState.FAIL:
        return "failed"
    if not is_trained(trial):
        return "skipped"
    if _is_audited(trial):
        return "audited"
    return "to the end" if trial.state == TrialState.COMPLETE else "stopped early"


def _is_audited(trial: FrozenTrial) -> bool:
    return record_of(trial).audit is not None


def _spans(trials: Iterable[FrozenTrial]) -> dict[str, tuple[datetime, datetime]]:
    """The start of each worker's first trial and the end of its last."""
    spans: dict[str, tuple[datetime, datetime]] = {}
    for trial in trials:
        worker, start, end = _when(trial)
        if start and end:
            first, last = spans.get(worker, (start, end))
            spans[worker] = min(first, start), max(last, end)
    return spans


def _when(trial: FrozenTrial) -> tuple[str, datetime | None, datetime | None]:
    return str(record_of(trial).worker), started(trial), ended(trial)


def _length(trial: FrozenTrial) -> float:
    _, start, end = _when(trial)
    return (end - start).total_seconds() if start and end else 0.0
