"""What a driver tells a worker."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """One worker's part of a run, as JSON on its standard input."""

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
    """Sets apart the draws of runs that share a storage with others at the same time."""
    index: int = 0
    worker: str = ""
    """The worker's name, unique for all time."""
    log: tuple[str, ...] = ()
    """Trackers that follow its trials, see `clapp.training.trackers`."""
