"""A trial that this process runs, from its start to its end, with few writes."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import optuna
from loguru import logger
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from clapp.config import identity
from clapp.errors import one_line
from clapp.front.record import RECORD, TrialRecord, record_of
from clapp.models.costs import cost
from clapp.study.sampling.draw import Draw
from clapp.study.storage import storage as storages
from clapp.study.storage.patience import all_trials as all_trials
from clapp.study.storage.patience import patiently as patiently
from clapp.study.storage.signs import ALIVE
from clapp.study.storage.storage import CONSTRAINTS, refusals, storage_of, trial_id

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

    from clapp.study.plan.plan import Plan
    from clapp.study.sampling.evolution import Proposal

T = TypeVar("T")


class RunningTrial:
    """A trial of this process, between its start and its end.

    Attributes:
        number: its number in the study.
        record: its record; `note` changes it, `store` and `finish` write it.
        asked: Optuna's trial object, if Optuna draws the parameters.
        drawn: the parameters, if they were drawn before the trial was created.
    """

    def __init__(
        self,
        study: "Study",
        number: int,
        record: TrialRecord,
        *,
        asked: "optuna.Trial | None" = None,
        drawn: Mapping[str, Any] | None = None,
    ) -> None:
        self.number, self.record, self.study = number, record, study
        self.asked, self.drawn = asked, drawn
        self._storage = storage_of(study)
        self._id = patiently(lambda: trial_id(study, number))

    def note(self, **facts: Any) -> None:
        """Add facts to the record; see `TrialRecord`."""
        self.record = replace(self.record, **facts)

    def store(self) -> None:
        """Write the record now, so that other workers see it."""
        document = self.record.document()
        patiently(lambda: self._storage.set_trial_user_attr(self._id, RECORD, document))

    def draw(self, plan: "Plan") -> dict[str, Any]:
        """The searched keys of its configuration."""
        asked, baseline = self.asked, self.record.baseline
        if asked is None:
            known = Draw(np.random.default_rng(0), self.drawn)  # all parameters are given
            return plan.space.suggest(known, plan.base)
        if baseline is None:
            return patiently(lambda: plan.space.suggest(asked, plan.base))
        given = plan.baseline_parameters(baseline)
        # Enqueue the parameters, so that none is drawn.
        patiently(lambda: plan.space.resuggest(asked, given))
        return plan.baseline(baseline)

    def constrain(self, violations: Sequence[float]) -> None:
        """Store by how much objectives exceed their limits, for samplers and the dashboard."""
        written = list(violations)
        patiently(lambda: self._storage.set_trial_system_attr(self._id, CONSTRAINTS, written))

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study, this one among them."""
        return all_trials(self.study)

    def finish(self, state: TrialState, values: Sequence[float] | None = None) -> None:
        """Write the record and end the trial.

        Raises:
            UpdateFinishedTrialError: another process has finished it.
        """
        self.note(ended=time.time())
        self.store()
        patiently(lambda: self._end(state, values))

    def _end(self, state: TrialState, values: Sequence[float] | None) -> None:
        try:
            self._storage.set_trial_state_values(self._id, state, values)
        except UpdateFinishedTrialError:
            # A refused write may have been stored all the same.
            if self._storage.get_trial(self._id).state != state:
                raise

    @contextmanager
    def pulse(self) -> Iterator[None]:
        """While the block runs, send signs of life to other machines at intervals."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(storages.HEARTBEAT_SECONDS):
                try:
                    self._storage.set_trial_user_attr(self._id, ALIVE, round(time.time(), 3))
                except UpdateFinishedTrialError:
                    return
                except refusals() as error:
                    logger.warning(f"no sign of life could be stored: {one_line(error)}")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def ask(study: "Study", worker: str) -> RunningTrial:
    """Take a waiting trial, or let the study's sampler begin a new one.

    The first write of a new trial contains the worker's name. `Study.ask` cannot do that: if the
    storage refuses a later write of it, a running trial remains that belongs to no worker.

    Raises:
        UpdateFinishedTrialError: another process took this worker for dead.
    """
    mine = TrialRecord(worker=worker, started=time.time())
    number = _claim(study)
    waited = number is not None
    if number is None:
        number = _add(study, mine)
    one = patiently(lambda: trial_id(study, number))
    asked = patiently(lambda: optuna.Trial(study, one))
    trial = RunningTrial(study, number, record_of(asked), asked=asked)
    if waited:
        trial.note(worker=worker, started=mine.started)
        trial.store()
    return trial


def begin(study: "Study", worker: str, proposal: "Proposal") -> RunningTrial:
    """Begin a trial with parameters that are already drawn, in one write."""
    params, flops = cost(proposal.config.model)
    record = TrialRecord(
        worker=worker,
        started=time.time(),
        key=identity(proposal.config),
        params=params,
        flops=flops,
        parent=proposal.parent,
        move=proposal.move,
    )
    number = _add(study, record, proposal.drawn, proposal.distributions)
    return RunningTrial(study, number, record, drawn=proposal.drawn)


def _claim(study: "Study") -> int | None:
    """Claim a waiting trial; returns its number, or None if no trial waits."""
    storage = storage_of(study)
    waiting = (TrialState.WAITING,)
    for trial in patiently(lambda: study.get_trials(deepcopy=False, states=waiting)):
        one = patiently(partial(trial_id, study, trial.number))
        try:
            if patiently(partial(storage.set_trial_state_values, one, TrialState.RUNNING)):
                return trial.number
        except UpdateFinishedTrialError:
            continue  # another worker has already finished it
    return None


def _add(
    study: "Study",
    record: TrialRecord,
    params: Mapping[str, Any] | None = None,
    distributions: "Mapping[str, BaseDistribution] | None" = None,
) -> int:
    """Add a running trial with this record in one write; returns its number."""
    created = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=dict(params or {}),
        distributions=dict(distributions or {}),
        user_attrs={RECORD: record.document()},
    )
    storage = storage_of(study)

    def write() -> int:
        owner = storage.get_study_id_from_name(study.study_name)
        return storage.create_new_trial(owner, created)

    # Of a write that is refused but stored all the same, `_let_go` of the worker frees the trial.
    one = patiently(write)
    return patiently(lambda: storage.get_trial_number_from_id(one))


def is_worked_on_by(trial: FrozenTrial, worker: str) -> bool:
    """Whether `worker` is running a trial."""
    return trial.state == TrialState.RUNNING and record_of(trial).worker == worker
