"""Trials out of Optuna's tables, as its own storage reads them and some times faster.

Optuna builds an object for each row and parses each parameter's distribution twice. A worker reads
all trials that are running several times a trial, so that was most of what a trial cost.
"""

import json
from collections import defaultdict
from collections.abc import Collection
from functools import lru_cache
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb.models import (
    TrialIntermediateValueModel,
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, or_, select

_AT_ONCE = 1000
"""Trials in one query; databases limit how many values it may have."""
_TRIALS = TrialModel.__table__.c
_PARAMS = TrialParamModel.__table__.c
_VALUES = TrialValueModel.__table__.c
_STEPS = TrialIntermediateValueModel.__table__.c
_USER = TrialUserAttributeModel.__table__.c
_SYSTEM = TrialSystemAttributeModel.__table__.c

Rows = dict[int, list[Any]]
_distribution = lru_cache(maxsize=4096)(json_to_distribution)


def read_trials(
    connection: Connection, study_id: int, included: Collection[int], after: int
) -> list[FrozenTrial]:
    """The trials of a study that are `included` or whose id is greater than `after`, by id."""
    query = select(
        *(_TRIALS.trial_id, _TRIALS.number, _TRIALS.state),
        *(_TRIALS.datetime_start, _TRIALS.datetime_complete),
    ).where(
        _TRIALS.study_id == study_id,
        or_(_TRIALS.trial_id > after, _TRIALS.trial_id.in_(included)),
    )
    trials = connection.execute(query.order_by(_TRIALS.trial_id)).all()
    found: list[FrozenTrial] = []
    for start in range(0, len(trials), _AT_ONCE):
        found += _complete(connection, trials[start : start + _AT_ONCE])
    return found


def _complete(connection: Connection, trials: Collection[Any]) -> list[FrozenTrial]:
    ids = [trial.trial_id for trial in trials]

    def of(*columns: "sqlalchemy.Column[Any]", order: Any = None) -> Rows:
        owner = columns[0]
        rows: Rows = defaultdict(list)
        for row in connection.execute(select(*columns).where(owner.in_(ids)).order_by(order)):
            rows[row[0]].append(row)
        return rows

    params = of(
        *(_PARAMS.trial_id, _PARAMS.param_name, _PARAMS.param_value, _PARAMS.distribution_json),
        order=_PARAMS.param_id,
    )
    values = of(_VALUES.trial_id, _VALUES.value, _VALUES.value_type, order=_VALUES.objective)
    steps = of(
        *(_STEPS.trial_id, _STEPS.step),
        *(_STEPS.intermediate_value, _STEPS.intermediate_value_type),
    )
    user = of(_USER.trial_id, _USER.key, _USER.value_json)
    system = of(_SYSTEM.trial_id, _SYSTEM.key, _SYSTEM.value_json)
    return [
        FrozenTrial(
            number=trial.number,
            state=trial.state,
            value=None,
            values=_values(values.get(trial.trial_id, ())),
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete,
            **_parameters(params.get(trial.trial_id, ())),
            user_attrs=_attributes(user.get(trial.trial_id, ())),
            system_attrs=_attributes(system.get(trial.trial_id, ())),
            intermediate_values={
                step: TrialIntermediateValueModel.stored_repr_to_intermediate_value(value, kind)
                for _, step, value, kind in steps.get(trial.trial_id, ())
            },
            trial_id=trial.trial_id,
        )
        for trial in trials
    ]


def _values(rows: Collection[Any]) -> list[float] | None:
    return [TrialValueModel.stored_repr_to_value(value, kind) for _, value, kind in rows] or None


def _attributes(rows: Collection[Any]) -> dict[str, Any]:
    return {key: json.loads(text) for _, key, text in rows}


def _parameters(rows: Collection[Any]) -> dict[str, dict[str, Any]]:
    distributions: dict[str, BaseDistribution] = {
        name: _distribution(text) for _, name, _, text in rows
    }
    params = {name: distributions[name].to_external_repr(value) for _, name, value, _ in rows}
    return {"params": params, "distributions": distributions}
