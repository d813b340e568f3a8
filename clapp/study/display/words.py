"""Texts about a running study and its trials."""

from typing import TYPE_CHECKING

from clapp.front.objectives import amount
from clapp.front.record import INTERRUPTED, record_of
from clapp.study.display.snapshot import Snapshot

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def describe(trial: "FrozenTrial") -> str:
    """A finished trial in one line."""
    from optuna.trial import TrialState

    record = record_of(trial)
    start = f"trial {trial.number}"
    if record.baseline is not None:
        start += f" ({record.baseline})"
    if record.skipped is not None:
        of = "" if record.duplicate_of is None else f" of trial {record.duplicate_of}"
        return f"{start}: skipped: {record.skipped}{of}"
    if trial.state == TrialState.FAIL:
        # For example "interrupted: stopped by the user"; the trial itself did not fail.
        if (record.failed or "").startswith(INTERRUPTED):
            return f"{start}: {record.failed}"
        return f"{start}: failed: {record.failed or 'its worker was lost'}"
    stopped = " (stopped early)" if trial.state == TrialState.PRUNED else ""
    known = {name: record.value(name) for name in ("loss", "params", "flops")}
    figures = [amount(name, value) for name, value in known.items() if value is not None]
    return f"{start}: {', '.join(figures)}, {record.seconds or 0.0:.1f} s{stopped}"


def front_in_words(snapshot: Snapshot) -> str:
    """The front in words: its size and its best model."""
    best = min(snapshot.front, key=lambda one: one.loss)
    text = (
        f"{len(snapshot.front)} model{'s' * (len(snapshot.front) > 1)}, "
        f"lowest {amount('loss', best.loss)} with {amount('params', best.params)}"
    )
    beating = snapshot.beating()
    return text if beating is None else f"{text}, {beating} beat the reference"


def counts_in_words(snapshot: Snapshot) -> str:
    """The number of trials by outcome, and their rate."""
    words = [f"{number} {word}" for word, number in snapshot.counts.items() if number]
    if snapshot.trained > snapshot.trained_before:
        words.append(f"{snapshot.per_minute:.1f} trials a minute")
    beating = snapshot.beating()
    if beating is not None:
        words.append(f"{beating} beat the reference")
    return ", ".join(words) or "no trial yet"


def progress_in_words(snapshot: Snapshot) -> str:
    """The progress of the study and its remaining time."""
    left = snapshot.remaining
    text = f"{snapshot.trained} of {snapshot.total} trials"
    return text if left is None else f"{text}, {clock(left)} left"


def clock(seconds: float) -> str:
    """A duration as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
