"""The record of a trial: everything that is stored beside its parameters and values.

It is one JSON document in one attribute, so a database needs few writes for a trial, and a refused
write leaves the old document instead of half a trial.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from clapp.training.losses.spread import Spread

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

RECORD = "record"
"""Name of the user attribute that holds the record."""
FORMAT = 2
"""Format number of the document. Format 1, with an attribute for each field, can still be read."""
NOTED = "noted"
"""User attribute of a study: numbers of the trials that have a note in the dashboard."""
INTERRUPTED = "interrupted"
"""`failed` begins with this if the cause was outside of the trial, which is then tried again."""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """Everything that CLAPP stores about a trial. Unknown or inapplicable fields are None or empty.

    Attributes:
        format: format number of the document that it was read from.
        worker: the worker that runs the trial, as `HOST-PID-INDEX-TOKEN`.
        baseline: name of the baseline of the study, if the trial is one.
        retry_of: number of the lost trial whose parameters it tries again.
        attempt: 1, and one more for each worker that was killed with these parameters.
        started, ended: seconds since the epoch, so that machines of all time zones agree.
        config: dotted keys in which its configuration differs from the packaged defaults.
        parent: number of the trial whose weights it started from; `move` describes what was
            changed.
        ancestor: the trial of another study that it was transferred from: `study`, `trial`, its
            `config` and the `weights` to start from, if any; see `clapp.study.preparing.transfer`.
        weights: weights of its network, see `clapp.study.storage.heritage`; None: the network is
            too large.
        optimizer: the optimiser; `starts`: how many of the initial weights had left the plateau at
            the first comparison.
        key: hash of the configuration, equal for trials that train the same.
        params, flops: sizes of its network.
        others: further objectives and limited values by name, in the units of `objectives`.
        measured_on: the processor that measured some of them, such as latency, and how.
        skipped: why it was not trained; `duplicate_of`: number of the trial that it repeats.
        failed: why it failed.
        loss: mean L2 over the validation pictures at the end; None when it was stopped early.
        pictures, crops, parts: what that is a mean over, see `clapp.training.losses.Spread`.
        iterations, seconds, stop_reason: of its training.
        timings: part of the work -> seconds.
        provenance: versions, machine and sources, see `clapp.training.provenance`.
        curve: its validations as [iteration, seconds, L2].
        stopped: why it was stopped early, a `Verdict` as a mapping; `saved_seconds`: the time this
            saved.
        audit: the verdict on a trial that was due to be stopped and ran on as a sample.
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
    measured_on: str | None = None
    skipped: str | None = None
    duplicate_of: int | None = None
    failed: str | None = None
    loss: float | None = None
    pictures: int | None = None
    crops: int | None = None
    parts: Sequence[float] = ()
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
        """The document to store: all fields with values, and the present format."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        said = {name: value for name, value in values.items() if value != _DEFAULTS[name]}
        return said | {"format": FORMAT}

    @property
    def spread(self) -> Spread | None:
        """What the loss is a mean over; None: an older version did not store it."""
        if self.loss is None or self.pictures is None or self.crops is None:
            return None
        return Spread(self.loss, self.pictures, self.crops, tuple(self.parts))

    def value(self, name: str) -> float | None:
        """The value of an objective; None: it was not stored."""
        if name in ("loss", "params", "flops"):
            value = getattr(self, name)
        else:
            value = (self.others or {}).get(name)
        return None if value is None else float(value)


_DEFAULTS = {field.name: field.default for field in fields(TrialRecord)}
_NOTHING = TrialRecord()
_read: dict[int, tuple[Any, TrialRecord]] = {}


def attributes(**facts: Any) -> dict[str, Any]:
    """The user attributes of a new trial, with a record of these facts."""
    return {RECORD: TrialRecord(**facts).document()}


def record_of(trial: "FrozenTrial | Trial") -> TrialRecord:
    """The record of a trial; an empty record if it has none, or an unreadable one.

    Records of finished trials are cached: they never change, and there may be ten thousand.
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
        # The cache keeps the trial alive, so its id stays unique.
        _read[id(document)] = (document, record)
    return record


def _final_states() -> Sequence[Any]:
    from optuna.trial import TrialState

    return (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def started(trial: "FrozenTrial") -> datetime | None:
    """The start of a trial, in this machine's time zone."""
    return _moment(record_of(trial).started, trial.datetime_start)


def ended(trial: "FrozenTrial") -> datetime | None:
    """The end of a trial, in this machine's time zone."""
    return _moment(record_of(trial).ended, trial.datetime_complete)


def _moment(seconds: float | None, written: datetime | None) -> datetime | None:
    """A time of the record, which has a zone, or else Optuna's, which has none."""
    if seconds is not None:
        return datetime.fromtimestamp(seconds).astimezone()
    return None if written is None else written.astimezone()
