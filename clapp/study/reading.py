"""Trials out of Optuna's tables, as its own storage reads them and some times faster.

Optuna builds an object for each row and parses each parameter's distribution twice. A worker reads
all trials that are running several times a trial, so that was most of what a trial cost.
"""

import json
from collections import defaultdict
from collections.abc import Collection
from functools import lru_cache
from operator import itemgetter
from typing import Any

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
from sqlalchemy import (
    Connection,
    Double,
    Select,
    Text,
    bindparam,
    cast,
    literal,
    null,
    or_,
    select,
    union_all,
)

_AT_ONCE = 1000
"""Trials in one query; databases limit how many values it may have."""
_TRIALS = TrialModel.__table__.c
_PARAMS = TrialParamModel.__table__.c
_VALUES = TrialValueModel.__table__.c
_STEPS = TrialIntermediateValueModel.__table__.c
_USER = TrialUserAttributeModel.__table__.c
_SYSTEM = TrialSystemAttributeModel.__table__.c

Rows = list[tuple[Any, ...]]
_distribution = lru_cache(maxsize=4096)(json_to_distribution)


# What the table of trials itself holds of one.
_HEADS = select(
    *(_TRIALS.trial_id, _TRIALS.number, _TRIALS.state),
    *(_TRIALS.datetime_start, _TRIALS.datetime_complete),
)


def _rows_of(kind: str, name: Any, text: Any, value: Any, order: Any) -> "Select[Any]":
    """What a table holds of the trials `ids`, in the columns that all tables' rows are given."""
    trial_id = order.table.c.trial_id
    return select(
        literal(kind), trial_id, cast(name, Text), cast(text, Text), cast(value, Double), order
    ).where(trial_id.in_(bindparam("ids", expanding=True)))


# A turn at the database costs more than what it brings, so one query asks five tables.
_EVERYTHING = union_all(
    _rows_of(
        "param",
        _PARAMS.param_name,
        _PARAMS.distribution_json,
        _PARAMS.param_value,
        _PARAMS.param_id,
    ),
    _rows_of("value", null(), _VALUES.value_type, _VALUES.value, _VALUES.objective),
    _rows_of(
        "step", null(), _STEPS.intermediate_value_type, _STEPS.intermediate_value, _STEPS.step
    ),
    _rows_of("user", _USER.key, _USER.value_json, null(), _USER.trial_user_attribute_id),
    _rows_of("system", _SYSTEM.key, _SYSTEM.value_json, null(), _SYSTEM.trial_system_attribute_id),
)


def read_trial(connection: Connection, trial_id: int) -> FrozenTrial | None:
    """The trial with this id."""
    trials = connection.execute(_HEADS.where(_TRIALS.trial_id == trial_id)).all()
    return _complete(connection, trials)[0] if trials else None


def read_trials(
    connection: Connection, study_id: int, included: Collection[int], after: int
) -> list[FrozenTrial]:
    """The trials of a study that are `included` or whose id is greater than `after`, by id."""
    query = _HEADS.where(
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
    rows: dict[tuple[str, int], Rows] = defaultdict(list)
    for kind, trial_id, *row in connection.execute(_EVERYTHING, {"ids": ids}):
        rows[kind, trial_id].append(tuple(row))
    return [
        FrozenTrial(
            number=trial.number,
            state=trial.state,
            value=None,
            values=_values(rows["value", trial.trial_id]),
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete,
            **_parameters(rows["param", trial.trial_id]),
            user_attrs=_attributes(rows["user", trial.trial_id]),
            system_attrs=_attributes(rows["system", trial.trial_id]),
            intermediate_values=_steps(rows["step", trial.trial_id]),
            trial_id=trial.trial_id,
        )
        for trial in trials
    ]


def _ordered(rows: Rows) -> Rows:
    return sorted(rows, key=itemgetter(-1))


def _values(rows: Rows) -> list[float] | None:
    kind = TrialValueModel.TrialValueType
    return [
        TrialValueModel.stored_repr_to_value(value, kind[text])
        for _, text, value, _ in _ordered(rows)
    ] or None


def _steps(rows: Rows) -> dict[int, float]:
    model = TrialIntermediateValueModel
    return {
        step: model.stored_repr_to_intermediate_value(value, model.TrialIntermediateValueType[text])
        for _, text, value, step in rows
    }


def _attributes(rows: Rows) -> dict[str, Any]:
    return {name: json.loads(text) for name, text, *_ in rows}


def _parameters(rows: Rows) -> dict[str, dict[str, Any]]:
    rows = _ordered(rows)
    distributions: dict[str, BaseDistribution] = {
        name: _distribution(text) for name, text, *_ in rows
    }
    params = {name: distributions[name].to_external_repr(value) for name, _, value, _ in rows}
    return {"params": params, "distributions": distributions}
