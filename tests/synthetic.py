"""Studies of any size made up through Optuna's API, with all that trials carry."""

import math
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from clapp.errors import ConfigError
from clapp.models.costs import cost
from clapp.study.plan.plan import Plan, make_plan
from clapp.study.preparing.prepare import create_study
from clapp.study.sampling.draw import Draw

START = datetime(2026, 5, 1, 9)
REFERENCE_LOSS = 0.02
KERNELS: dict[Any, float] = {3: 1.0, 5: 0.2, 7: 5.0}
"""By how much the size of the first kernel changes the loss."""
_STATES = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "skipped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_SHARES = (80, 8, 9, 3)
_DRAWN = 40  # configurations that take turns: to draw a thousand takes long


def made_up_study(
    trials: int,
    storage: BaseStorage | None = None,
    *,
    objectives: Sequence[str] = ("loss", "params", "flops"),
    reference: bool = True,
) -> optuna.Study:
    """The study sobel3 with trials of four workers and of every outcome, and its own loss law.

    Args:
        storage: where to keep it; None: in memory.
        objectives: any of the five.
        reference: the first trial is the reference.
    """
    plan = make_plan("sobel3")
    file = plan.file.model_copy(update={"objectives": list(objectives), "baselines": {}})
    plan = replace(plan, file=file)
    with TemporaryDirectory() as locks:
        study = create_study(plan, storage or InMemoryStorage(), Path(locks))
    study.set_user_attr("elapsed", 3600.0)
    drawn = [trial for trial in _configurations(plan) if _is_possible(plan, trial.params)]
    draw, clock, made = random.Random(1), [0.0] * 4, []
    for number in range(trials):
        worker = clock.index(min(clock))
        begun, clock[worker] = clock[worker], clock[worker] + draw.uniform(5, 40)
        first = reference and number == 0
        kind = "complete" if number < 2 else draw.choices([*_STATES], _SHARES)[0]
        asked = FrozenTrial(0, TrialState.WAITING, None, None, None, {}, {}, {}, {}, {}, 0)
        if not first:
            asked = drawn[number % len(drawn)]
        facts = _facts(plan, asked.params, number, kind, draw)
        if first:
            facts |= {"baseline": "reference", "loss": REFERENCE_LOSS}
        known = {"latency": 1.0 + facts["flops"] / 1e7, "memory": 1e6, **facts}
        made.append(
            FrozenTrial(
                number=number,
                trial_id=number,
                state=_STATES[kind],
                value=None,
                values=[float(known[o]) for o in objectives] if kind == "complete" else None,
                datetime_start=START + timedelta(seconds=begun),
                datetime_complete=START + timedelta(seconds=clock[worker]),
                params=asked.params,
                distributions=asked.distributions,
                user_attrs={**facts, "worker": f"machine-7-{worker}-abcdef"},
                system_attrs={},
                intermediate_values={},
            )
        )
    study.add_trials(made)
    return study


def _configurations(plan: Plan) -> list[FrozenTrial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    possible: list[int] = []
    while len(possible) < _DRAWN:
        trial = study.ask()
        with suppress(ConfigError):  # an impossible combination
            plan.config(plan.space.suggest(trial, plan.base), seed=0, device=None)
            possible.append(trial.number)
    return [trial for trial in study.get_trials() if trial.number in possible]


def _is_possible(plan: Plan, given: dict[str, Any]) -> bool:
    """Whether a draw is a configuration; a study skips the others."""
    changes = plan.space.suggest(Draw(np.random.default_rng(0), given), plan.base)
    try:
        plan.config(changes, seed=0, device=None)
    except ConfigError:
        return False
    return True


def _facts(
    plan: Plan, changes: dict[str, Any], number: int, kind: str, draw: random.Random
) -> dict[str, Any]:
    """What a trial of that kind carries; the kernel's size is what decides the loss most."""
    kernel = changes.get("model.kernel_size[0]", 3)
    if changes:
        changes = plan.space.suggest(Draw(np.random.default_rng(number), changes), plan.base)
    params, flops = cost(plan.config(changes, seed=0, device=None).model)
    loss = 0.1 / params**0.5 * KERNELS.get(kernel, 1.0) * math.exp(draw.gauss(-1, 0.3))
    facts: dict[str, Any] = {
        "config": {**changes, "train.seed": number},
        "key": f"{number:016x}",
        "params": params,
        "flops": flops,
    }
    if kind in ("complete", "stopped"):
        points = 8 if kind == "complete" else 3
        facts["curve"] = [[100 * i, 2.0 * i, loss * (1 + 6 / i)] for i in range(1, points + 1)]
        facts |= {"loss": loss, "iterations": 100 * points, "seconds": 2.0 * points}
    if kind == "skipped":
        facts["skipped"] = "duplicate"
    if kind == "failed":
        facts["failed"] = "nan after 100 iterations"
    return facts
