"""Studies of any size made up through Optuna's API, with all that trials carry."""

import math
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from clapp.costs import cost
from clapp.study.plan import Plan, make_plan
from clapp.study.prepare import create_study

START = datetime(2026, 5, 1, 9)
REFERENCE_LOSS = 0.02
_STATES = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "skipped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_DRAWN = 40  # configurations that take turns: drawing a thousand takes long


def made_up_study(
    trials: int,
    storage: BaseStorage | None = None,
    *,
    workers: int = 4,
    seed: int = 1,
    objectives: Sequence[str] = ("loss", "params", "flops"),
    reference: bool = True,
) -> optuna.Study:
    """The study sobel3 with made-up trials of every outcome.

    Args:
        storage: where to keep it; None: in memory.
        objectives: any of the five.
        reference: the first trial is the reference.
    """
    plan = make_plan("sobel3")
    file = plan.file.model_copy(update={"objectives": list(objectives)})
    plan = Plan(plan.name, file, plan.layers, plan.space, plan.base)
    study = create_study(plan, storage or InMemoryStorage())
    study.set_user_attr("elapsed", 3600.0)
    drawn = _drawn(plan, seed)
    draw, clock = random.Random(seed), [0.0] * workers
    for number in range(len(study.trials), len(study.trials) + trials):
        worker = clock.index(min(clock))
        begun, clock[worker] = clock[worker], clock[worker] + draw.uniform(5, 40)
        first = reference and not any(t.user_attrs.get("params") for t in study.trials[:9])
        trial = _trial(draw, number, drawn[number % _DRAWN], objectives, first)
        trial.set_user_attr("worker", f"machine-7-{worker}-abcdef")
        trial.datetime_start = START + timedelta(seconds=begun)
        trial.datetime_complete = START + timedelta(seconds=clock[worker])
        study.add_trial(trial)
    return study
