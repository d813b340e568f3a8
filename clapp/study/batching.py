"""Optuna's database storage, with the small writes of a trial gathered into few transactions.

A trial stores some seventeen parameters and a dozen attributes, each a transaction of several
statements in Optuna: 60 ms a trial, and as many turns at a database that others wait for.
"""

import json
import threading
from collections.abc import Container, Mapping, Sequence
from typing import Any

import sqlalchemy
from loguru import logger
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import StudyModel, TrialHeartbeatModel, TrialModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import column, table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session

from clapp.study.reading import read_trial, read_trials

_TRIALS = table("trials", column("trial_id"), column("state"))
_UNFINISHED = ("RUNNING", "WAITING")
_PARAMS = table(
    "trial_params",
    column("trial_id"),
    column("param_name"),
    column("param_value"),
    column("distribution_json"),
)
_USER, _SYSTEM = (
    table(name, column("trial_id"), column("key"), column("value_json"))
    for name in ("trial_user_attributes", "trial_system_attributes")
)
_STUDY = table("study_system_attributes", column("study_id"), column("key"), column("value_json"))
_NAMES = {_PARAMS: "param_name", _USER: "key", _SYSTEM: "key"}


class BatchingStorage(RDBStorage):
    """`RDBStorage` whose parameters and attributes of trials are written before the next read.

    Everything else - every read, and every change of a trial's state - asks for `scoped_session`
    first, and so finds them written.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._waiting: dict[tuple[Any, int, str], dict[str, Any]] = {}
        self._lock = threading.Lock()  # Optuna's heartbeat is a thread
        super().__init__(*arguments, **options)

    @property
    def scoped_session(self) -> "scoped_session[Session]":
        """Optuna's sessions, after everything that waits has been written."""
        self._write()
        return self._sessions

    @scoped_session.setter
    def scoped_session(self, sessions: "scoped_session[Session]") -> None:
        self._sessions = sessions

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        with _create_scoped_session(self.scoped_session) as session:
            trials = read_trials(
                session.connection(), study_id, included_trial_ids, trial_id_greater_than
            )
            if not trials:
                StudyModel.find_or_raise_by_id(study_id, session)
        return [trial for trial in trials if states is None or trial.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial with this id.

        Raises:
            KeyError: there is none.
        """
        with _create_scoped_session(self.scoped_session) as session:
            trial = read_trial(session.connection(), trial_id)
        if trial is None:
            raise KeyError(f"no trial has the id {trial_id}")
        return trial

    # Where there are heartbeats, a running trial has one from the start: Optuna overlooks a trial
    # without one, so that of a worker killed just after it asked would be RUNNING for ever.

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> TrialModel:
        trial = super()._get_prepared_new_trial(study_id, template_trial, session)
        if self.heartbeat_interval is not None and trial.state == TrialState.RUNNING:
            session.add(TrialHeartbeatModel(trial_id=trial.trial_id))
        return trial

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Change a trial's state; False: another process took the waiting trial first."""
        if self.heartbeat_interval is not None and state == TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        return bool(super().set_trial_state_values(trial_id, state, values))

    def record_heartbeat(self, trial_id: int) -> None:
        """Record that a trial's worker lives; a database out of reach does not end its thread."""
        try:
            super().record_heartbeat(trial_id)
        except StorageInternalError as error:
            logger.warning(f"no heartbeat could be stored: {error}")

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Store a parameter, before the next read."""
        self._set_trial_param(trial_id, param_name, param_value_internal, distribution, None)

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        # What Optuna's cache in front of a storage calls.
        if previous_distribution is not None:
            check_distribution_compatibility(previous_distribution, distribution)
        values = {
            "param_value": param_value_internal,
            "distribution_json": distribution_to_json(distribution),
        }
        self._keep(_PARAMS, trial_id, param_name, values)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store an attribute, before the next read."""
        self._keep(_USER, trial_id, key, {"value_json": json.dumps(value)})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store an attribute, before the next read."""
        self._keep(_SYSTEM, trial_id, key, {"value_json": json.dumps(value)})

    def _keep(self, where: Any, trial_id: int, name: str, values: dict[str, Any]) -> None:
        with self._lock:
            self._waiting[where, trial_id, name] = {
                "trial_id": trial_id,
                _NAMES[where]: name,
                **values,
            }

    def _write(self) -> None:
        """Write what waits in one transaction, except for trials that are finished.

        Raises:
            UpdateFinishedTrialError: there was something for such a trial.
            StorageInternalError: the database refused.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            if not waiting:
                return
            trials = {trial for _, trial, _ in waiting}
            try:
                with self.engine.begin() as connection:
                    unfinished = _unfinished(connection, trials)
                    for where, name in _NAMES.items():
                        rows = [
                            row
                            for (target, trial, _), row in waiting.items()
                            if target is where and trial in unfinished
                        ]
                        if rows:
                            _replace(connection, where, ("trial_id", name), rows)
            except SQLAlchemyError as error:
                raise StorageInternalError(f"a trial could not be written: {error}") from error
        if trials != unfinished:
            self._came_late(trials - unfinished)

    def _came_late(self, trials: set[int]) -> None:
        raise UpdateFinishedTrialError(f"trials {sorted(trials)} are finished or deleted")

    def set_study_system_attrs(self, study_id: int, values: Mapping[str, Any]) -> None:
        """Store attributes of a study in one transaction: who reads sees all of them or none.

        Raises:
            StorageInternalError: the database refused.
        """
        rows = [
            {"study_id": study_id, "key": key, "value_json": json.dumps(value)}
            for key, value in values.items()
        ]
        try:
            with self.engine.begin() as connection:
                _replace(connection, _STUDY, ("study_id", "key"), rows)
        except SQLAlchemyError as error:
            raise StorageInternalError(f"a study could not be written: {error}") from error


def set_study_system_attrs(storage: BaseStorage, study_id: int, values: Mapping[str, Any]) -> None:
    """Store several attributes of a study, together where the storage can."""
    backend = getattr(storage, "_backend", storage)  # behind Optuna's cache
    if isinstance(backend, BatchingStorage):
        backend.set_study_system_attrs(study_id, values)
    else:
        for key, value in values.items():
            storage.set_study_system_attr(study_id, key, value)


def _unfinished(connection: sqlalchemy.Connection, trials: set[int]) -> set[int]:
    query = sqlalchemy.select(_TRIALS.c.trial_id).where(
        _TRIALS.c.trial_id.in_(trials),
        sqlalchemy.cast(_TRIALS.c.state, sqlalchemy.String).in_(_UNFINISHED),
    )
    return {row.trial_id for row in connection.execute(query)}


def _replace(
    connection: sqlalchemy.Connection,
    where: Any,
    names: tuple[str, str],
    rows: list[dict[str, Any]],
) -> None:
    """Insert rows in place of those with the same values in the columns `names`: an upsert.

    Two processes may do that with the same row at once, such as why a trial failed.
    """
    dialect = {"postgresql": postgresql, "sqlite": sqlite}.get(connection.dialect.name)
    if dialect is not None:
        insert = dialect.insert(where)
        others = {c.name: insert.excluded[c.name] for c in where.c if c.name not in names}
        connection.execute(insert.on_conflict_do_update(index_elements=names, set_=others), rows)
        return
    old = sqlalchemy.delete(where).where(
        *(where.c[name] == sqlalchemy.bindparam(f"old_{name}") for name in names)
    )
    connection.execute(old, [{f"old_{name}": row[name] for name in names} for row in rows])
    connection.execute(sqlalchemy.insert(where), rows)
