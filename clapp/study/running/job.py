"""The job that a driver gives to a worker."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """The settings of one worker, sent as JSON to its standard input."""

    name: str
    document: dict[str, Any]
    """The resolved study, see `Plan.document`."""
    storage: str
    folder: str
    artifacts: str | None
    """See `clapp.study.dashboard.artifacts`; None: in `folder`."""
    device: str | None
    deadline: float | None
    """Time of day (seconds since the epoch) at which the study's time is over."""
    first: int
    """Number of the first trial of this run."""
    salt: str
    """Part of the seed, which differs between runs that share a storage at the same time."""
    index: int = 0
    worker: str = ""
    """The worker's name; no other worker ever gets it."""
    log: tuple[str, ...] = ()
    """Trackers that log its trials, see `clapp.training.trackers`."""
