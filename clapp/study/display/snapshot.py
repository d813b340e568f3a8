"""The state of a study at one moment; only changed parts are computed again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clapp.front.hypervolume import history, log_hypervolume
from clapp.front.objectives import CONSTANT_LOSS, worst_values
from clapp.front.outcomes import (
    Candidate,
    beats,
    counted,
    feasible,
    front,
    limits_of,
    objectives,
    reference_among,
)
from clapp.front.trials import trained

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment."""

    study: str
    total: int
    trained: int
    trained_before: int
    """Number of trials trained before this run."""
    counts: dict[str, int]
    front: Sequence[Candidate]
    reference: Candidate | None
    elapsed: float
    """Seconds of this run."""
    seconds_left: float | None
    """Seconds until the time budget is spent; None: there is no time budget."""
    workers: Sequence[str] = ()
    finished: "Sequence[FrozenTrial]" = field(default=())
    """Trials that finished since the last snapshot."""
    candidates: Sequence[Candidate] = ()
    """The models of the front, and the other models."""
    volumes: Sequence[float] = ()
    """The hypervolume after each trained trial, in the order in which they finished."""

    @property
    def per_minute(self) -> float:
        """Trials trained a minute in this run."""
        return (self.trained - self.trained_before) * 60 / max(self.elapsed, 1e-9)

    @property
    def remaining(self) -> float | None:
        """Seconds until the study ends at the present rate, or None before it is known."""
        if self.trained == self.trained_before:
            return self.seconds_left
        by_rate = (self.total - self.trained) * 60 / self.per_minute
        return by_rate if self.seconds_left is None else min(by_rate, max(self.seconds_left, 0.0))

    def beating(self) -> int | None:
        """How many models of the front beat the reference; None before the reference is trained."""
        if self.reference is None:
            return None
        return sum(beats(one, self.reference) for one in self.front)


class Watcher:
    """Takes snapshots of a study, from its present state on."""

    def __init__(self, study: "Study", total: int) -> None:
        self._study, self._total = study, total
        self._names, self._limits = objectives(study), limits_of(study)
        trials = study.get_trials(deepcopy=False)
        self.first = len(trials)
        self.trained_before = trained(trials)
        self._known = {trial.number for trial in trials if trial.state.is_finished()}
        self._trained, self._counts = self.trained_before, counted(trials)
        self._attributes: Mapping[str, Any] = {}
        self._candidates: list[Candidate] = []
        self._front: list[Candidate] = []
        self._work_out(trials)
        self._measure()

    def _work_out(self, trials: "Sequence[FrozenTrial]") -> None:
        """Compute the values that depend only on the finished trials."""
        from optuna.trial import TrialState

        complete = (trial for trial in trials if trial.state == TrialState.COMPLETE)
        self._candidates = feasible(complete, self._names, self._limits)
        self._front = front(self._candidates, self._names)
        self._reference = reference_among(self._candidates)

    def _measure(self) -> None:
        """Compute all hypervolumes."""
        self._worst = self._worst_point()
        self._volumes = [moment.hypervolume for moment in history(self._study, self._worst)]

    def _worst_point(self) -> dict[str, float]:
        if CONSTANT_LOSS not in self._attributes:
            self._attributes = self._study.user_attrs
        values = (candidate.values for candidate in self._candidates)
        return worst_values(self._names, self._attributes, self._limits, values)

    def _measure_more(self, number: int) -> None:
        """Add the hypervolumes after `number` more trials; trials that came at once get the same
        one."""
        worst = self._worst
        if self._worst_point() != worst:
            self._measure()  # the reference point has changed
        else:
            values = [[c.values[name] for name in worst] for c in self._front]
            volume = log_hypervolume(values, list(worst.values()))
            self._volumes = [*self._volumes, *[volume] * number]

    def look(
        self,
        elapsed: float,
        seconds_left: float | None,
        workers: Sequence[str] = (),
        *,
        again: bool = True,
    ) -> Snapshot:
        """A snapshot of the study now.

        Args:
            again: read the storage again; False: use the trials of the last snapshot.
        """
        return Snapshot(
            study=self._study.study_name,
            total=self._total,
            finished=self._ask() if again else (),
            trained=self._trained,
            trained_before=self.trained_before,
            counts=self._counts,
            front=self._front,
            reference=self._reference,
            elapsed=elapsed,
            seconds_left=seconds_left,
            workers=workers,
            candidates=self._candidates,
            volumes=self._volumes,
        )

    def _ask(self) -> "list[FrozenTrial]":
        """Read the storage; returns the trials that finished since the last time."""
        trials = self._study.get_trials(deepcopy=False)
        fresh = [t for t in trials if t.state.is_finished() and t.number not in self._known]
        before, self._trained = self._trained, trained(trials)
        self._counts = counted(trials)
        if fresh:
            self._known.update(trial.number for trial in fresh)
            self._work_out(trials)
            self._measure_more(self._trained - before)
        return fresh
