"""What is stored of a trial beside its parameters and values: one attribute, read and written here.

One JSON document a trial instead of an attribute a fact: a database then has few writes to do, and
a refused one leaves the document as it was instead of half a trial.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

RECORD = "record"
"""The user attribute of a trial."""
FORMAT = 2
"""Of the document. In format 1 each field was an attribute by itself; it can still be read."""
NOTED = "noted"
"""User attribute of a study: numbers of the trials that have a note in the dashboard."""
INTERRUPTED = "interrupted"
"""How `failed` begins where a trial was not to blame: it is tried again."""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """Everything CLAPP knows of a trial. What is unknown, or does not apply, is None or empty.

    Attributes:
        format: of the document it was read from.
        worker: who works on it; `HOST-PID-INDEX-TOKEN`.
        baseline: the baseline of the study that it is.
        retry_of: number of the lost trial whose parameters it tries again.
        attempt: 1, and one more for each worker that was killed with these parameters.
        started, ended: seconds since the epoch, so that machines of all time zones agree.
        config: dotted keys in which its configuration differs from the packaged defaults.
        parent: number of the trial whose weights it started from; `move` says what was changed.
        ancestor: the trial of another study that it was transferred from: `study`, `trial`, its
            `config` and the `weights` to start from, if any; see `clapp.study.preparing.transfer`.
        weights: of its network, see `clapp.study.storage.heritage`; None: it is too large.
        optimizer: what trained it; `starts` how many first weights left the plateau at once.
        key: hash of the configuration, equal for trials that train the same.
        params, flops: sizes of its network.
        others: further objectives and limited values by name, in the units of `objectives`.
        skipped: why it was not trained; `duplicate_of` names the trial it repeats.
        failed: why it failed.
        loss: mean L2 over the validation pictures at the end; None when it was stopped early.
        iterations, seconds, stop_reason: of its training.
        timings: part of the work -> seconds.
        provenance: versions, machine and sources, see `clapp.training.provenance`.
        curve: its validations as [iteration, seconds, L2].
        stopped: why it was stopped early, a `Verdict` as a mapping; `saved_seconds` that saved.
        audit: the verdict of a trial that was due to be stopped and ran on as a sample.
    """

    format: int = FORMAT
    worker: str | None = None
    baseline: str | None = None
    retry_of: int | None = None
    attempt: int = 1
    started: float | None = None
    ended: float | None = None
    config: Mapping[str, Any] | None = None
    parent: int | None = None
    move: str | None = None
    ancestor: Mapping[str, Any] | None = None
    weights: str | None = None
    optimizer: str | None = None
    starts: int | None = None
    key: str | None = None
    params: int | None = None
    flops: int | None = None
    others: Mapping[str, float] | None = None
    skipped: str | None = None
    duplicate_of: int | None = None
    failed: str | None = None
    loss: float | None = None
    iterations: int | None = None
    seconds: float | None = None
    stop_reason: str | None = None
    timings: Mapping[str, float] | None = None
    provenance: Mapping[str, Any] | None = None
    curve: Sequence[Sequence[float]] = ()
    stopped: Mapping[str, Any] | None = None
    saved_seconds: float | None = None
    audit: Mapping[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """What is stored: the fields that say something, and the present format."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        said = {name: value for name, value in values.items() if value != _DEFAULTS[name]}
        return said | {"format": FORMAT}

    def value(self, name: str) -> float | None:
        """The value of an objective; None: nobody stored it."""
        if name in ("loss", "params", "flops"):
            value = getattr(self, name)
        else:
            value = (self.others or {}).get(name)
        return None if value is None else float(value)


_DEFAULTS = {field.name: field.default for field in fields(TrialRecord)}
_NOTHING = TrialRecord()
_read: dict[int, tuple[Any, TrialRecord]] = {}


def attributes(**facts: Any) -> dict[str, Any]:
    """User attributes with a record of these facts, for a trial that is to be created."""
    return {RECORD: TrialRecord(**facts).document()}


def record_of(trial: "FrozenTrial | Trial") -> TrialRecord:
    """The record of a trial; one without any fact where it has none, or none that can be read.

    Finished trials never change, and there may be ten thousand: each is read once.
    """
    stored = trial.user_attrs
    document = stored.get(RECORD)
    known = _read.get(id(document))
    if known is not None and known[0] is document:
        return known[1]
    source = document if isinstance(document, dict) else stored
    facts = {name: value for name, value in source.items() if name in _DEFAULTS}
    if source is stored and facts:
        facts["format"] = 1
    record = TrialRecord(**facts) if facts else _NOTHING
    if source is document and getattr(trial, "state", None) in _final_states():
        _read[id(document)] = (document, record)  # which keeps it alive, and so its id unique
    return record


def _final_states() -> Sequence[Any]:
    from optuna.trial import TrialState

    return (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def started(trial: "FrozenTrial") -> datetime | None:
    """When a trial was begun, in this machine's time zone."""
    return _moment(record_of(trial).started, trial.datetime_start)


def ended(trial: "FrozenTrial") -> datetime | None:
    """When a trial was finished, in this machine's time zone."""
    return _moment(record_of(trial).ended, trial.datetime_complete)


def _moment(seconds: float | None, written: datetime | None) -> datetime | None:
    """Optuna's times have no zone; ours are better where there are any."""
    if seconds is not None:
        return datetime.fromtimestamp(seconds).astimezone()
    return None if written is None else written.astimezone()
