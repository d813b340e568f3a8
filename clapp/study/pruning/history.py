"""The trials of a study together; of those that have ended, each is read once.

Before each training, several numbers are needed that all trials count for. A trial that has ended
never changes, and there may be ten thousand, so what is known of those before the first that has
not ended is kept from one moment to the next.
"""

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from clapp.front.record import TrialRecord, record_of
from clapp.front.trials import (
    ended_first,
    enqueued_as,
    is_enqueued,
    is_lost,
    is_trained,
    to_repeat,
    trained,
)


class History:
    """All trials of one study, at the moment of the last `read`.

    Attributes:
        trials: all of them, in the order of their numbers.
        ended: so many of the first ones have ended.
    """

    def __init__(self, trials: Sequence[FrozenTrial] = ()) -> None:
        self.ended = 0
        self._trained = 0
        self._lost: list[FrozenTrial] = []
        self._retried: set[int | None] = set()
        # Number of the first trial that was trained with a key, or enqueued for something.
        self._trained_with: dict[str | None, int] = {}
        self._enqueued_as: dict[tuple[str, Any] | None, int] = {}
        self.read(trials)

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in the trials as they are now, in the order of their numbers."""
        self.trials = trials
        before, self.ended = self.ended, ended_first(trials, self.ended)
        for trial in trials[before : self.ended]:
            self._keep(trial)

    def _keep(self, trial: FrozenTrial) -> None:
        record = record_of(trial)
        self._retried.add(record.retry_of)
        self._enqueued_as.setdefault(enqueued_as(record), trial.number)
        if is_trained(trial):
            self._trained += 1
            self._trained_with.setdefault(record.key, trial.number)
        elif is_lost(trial):
            self._lost.append(trial)

    @property
    def open(self) -> Sequence[FrozenTrial]:
        """The trials from the first on that has not ended: few, where few are in training."""
        return self.trials[self.ended :]

    def trained(self) -> int:
        """The number of trials that count for a budget."""
        return self._trained + trained(self.open)

    def lost(self, max_retry: int) -> list[FrozenTrial]:
        """The trials to be tried again that are not enqueued yet; see `clapp.front.trials.lost`."""
        candidates = [*self._lost, *filter(is_lost, self.open)]
        retried = self._retried | {record_of(trial).retry_of for trial in self.open}
        return to_repeat(candidates, retried, max_retry)

    def is_surplus(self, number: int, budget: int, max_retry: int) -> bool:
        """Whether the trials before trial `number`, which has not ended, already fill the budget.

        This makes the number of trained trials exact without a lock: numbers are given in order, so
        every trial sees all trials with smaller numbers, and goes on only if fewer of them than the
        budget are trained or may still be. A drawn trial also leaves room for trials to be
        repeated.
        """
        drawn = not is_enqueued(self.trials[number])
        ahead = self._trained + sum(
            is_trained(t) or not t.state.is_finished()
            for t in self.open
            if t.number < number or (drawn and is_enqueued(t))
        )
        if drawn:
            ahead += len(self.lost(max_retry))
        return ahead >= budget

    def duplicate(self, number: int, record: TrialRecord) -> int | None:
        """The number of another trial of the same configuration that is trained or in training.

        If drivers on several machines have enqueued the same trial, it is the first of these.

        Args:
            number: of a trial that has not ended.
            record: what is known of it.
        """
        wanted = enqueued_as(record)
        ended = [self._trained_with.get(record.key)]
        if wanted:
            ended.append(self._enqueued_as.get(wanted))
        found = [one for one in ended if one is not None]
        return min(found) if found else self._open_duplicate(number, record, wanted)

    def _open_duplicate(
        self, number: int, record: TrialRecord, wanted: tuple[str, Any] | None
    ) -> int | None:
        for other in self.open:
            known, earlier = record_of(other), other.number < number
            if wanted and earlier and enqueued_as(known) == wanted:
                return other.number
            if other.number == number or known.key != record.key:
                continue
            if (earlier and other.state == TrialState.RUNNING) or is_trained(other):
                return other.number
        return None
