"""`clapp bench study`: how fast a search gets on, plain loops around Optuna beside ours.

By default every variant trains the same configurations, drawn at random before any of them starts,
and enqueued: two samplers, or one with two numbers of workers, draw dearer or cheaper networks, and
trials per hour would compare those. With `search` each variant draws for itself, which is what a
user gets; it takes many trials and rounds to tell variants apart.

Seconds run from the start of the first trial to the end of the last, by the trials' own records,
with the pool of pictures full. Baselines are left out: they would help whoever has them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import reference
from benchmarks.loops import (
    NAME,
    Parameters,
    Record,
    draw,
    our_study,
    plain_loop,
    seconds_per_step,
)
from benchmarks.measure import Result, Row, figure, in_process, in_turn
from benchmarks.trainer import check_steps, fill_pool
from clapp.config import Config
from clapp.errors import ClappError, UserError
from clapp.front.objectives import exact_costs
from clapp.study.plan.plan import Plan, make_plan, plan_from

OBJECTIVES = ["loss", "params", "flops"]
WORST = (0.1, 5000.0, 3e8)
"""The reference point of the hypervolume, which is taken of logarithms to base 10: three times the
loss of predicting zero for `sobel_3`, and the limits of `studies/sobel3.yaml`."""
SHARE = 0.9
"""Of the smallest final hypervolume of a variant: the target by default."""
REFERENCE = "plain loop, training of 2022"
PLAIN, THREAD = "plain loop, clapp.train", "plain loop, clapp.train, 1 thread"
ONE, TWO = "ours, 1 worker", "ours, 2 workers"
EXTRAPOLATED, TO_TARGET = "extrapolated_trials_per_hour", "seconds_to_target"
_LEAST = 1e-12  # what a loss of zero counts as
_SETTINGS = reference.Settings()


def run(
    study: str = "sobel3",
    trials: int = 30,
    seconds: float | None = None,
    reference_trials: int = 2,
    reference_steps: int = 5,
    search: bool = False,
    target: float | None = None,
    seed: int = 0,
    sets: Iterable[str] = (),
    repeats: int = 1,
    settings: reference.Settings = _SETTINGS,
) -> Result:
    """Run one study in several ways.

    Args:
        study: name or path; its space, configuration, objectives and limits hold for all.
        trials: to train in each variant.
        seconds: start no trial after that; None: no limit.
        reference_trials: configurations of which `reference_steps` steps are trained the way of
            2022; its trials per hour are extrapolated to the fewest steps it takes. 0: none.
        search: each variant draws its own configurations, a plain loop by Optuna's default TPE.
        target: hypervolume to reach; None: `SHARE` of the smallest final one.
        seed: of the draws and the trainings; each further round takes the next.
        sets: `key=value` texts laid over the study's configuration.

    Raises:
        UserError: the study has other objectives, or `reference_steps` is not possible.
        ClappError: a variant failed.
    """
    check_steps(reference_steps, settings)
    plan = _plan(study, trials, seconds, sets)
    found: dict[str, list[list[Record]]] = defaultdict(list)
    with TemporaryDirectory(prefix="clapp-bench-", ignore_cleanup_errors=True) as name:
        cache = Path(name)
        in_process(fill_pool, plan.config({}, seed=0, device=None), cache)

        def variant(name: str, loop: Loop) -> Callable[[], dict[str, float]]:
            seeds = count(seed)

            def once() -> dict[str, float]:
                seeded = _seeded(plan, next(seeds))
                enqueued = None if search else draw(seeded, trials, seeded.file.seed)
                found[name].append(loop(seeded.document(), enqueued, cache))
                return _figures(name, found[name][-1])

            return once

        rows = in_turn({name: variant(name, loop) for name, loop in LOOPS.items()}, repeats)
    _add_target(rows, found, target)
    if reference_trials:
        seeded = _seeded(plan, seed)
        configs = _spread(
            seeded, draw(seeded, max(trials, reference_trials), seed), reference_trials
        )
        rows.insert(0, _reference(configs, settings, reference_steps))
    return Result(rows, _ratios(rows))


def _plan(study: str, trials: int, seconds: float | None, sets: Iterable[str]) -> Plan:
    plan = make_plan(study, sets)
    if plan.file.objectives != OBJECTIVES:
        raise UserError(
            f"--study {study}: objectives {', '.join(plan.file.objectives)}; this benchmark "
            f"takes a study with {', '.join(OBJECTIVES)}"
        )
    changes = {"baselines": {}, "budget": {"trials": trials, "timeout": seconds}}
    return plan_from(NAME, plan.document() | changes)


def _seeded(plan: Plan, seed: int) -> Plan:
    return plan_from(NAME, plan.document() | {"seed": seed})


def _plain(document: Any, enqueued: Any, cache: Path, threads: int | None = None) -> list[Record]:
    return in_process(plain_loop, document, enqueued, cache, threads)[0]


Loop = Callable[[Any, Any, Path], list[Record]]
LOOPS: dict[str, Loop] = {
    PLAIN: _plain,
    THREAD: partial(_plain, threads=1),
    ONE: partial(our_study, workers=1),
    TWO: partial(our_study, workers=2),
}


def _figures(name: str, records: Sequence[Record]) -> dict[str, float]:
    if not records:
        raise ClappError(f"{name}: no trial was trained to its end")
    seconds = records[-1].end - min(record.start for record in records)
    return {
        "trials": len(records),
        "seconds": seconds,
        "trials_per_hour": 3600 * len(records) / seconds,
        "hypervolume": hypervolume(records),
    }


def hypervolume(records: Sequence[Record]) -> float:
    """What the records dominate up to `WORST`, in logarithms to base 10."""
    import moocore  # type: ignore[import-untyped]

    points = [[math.log10(max(value, _LEAST)) for value in record.values] for record in records]
    return float(moocore.hypervolume(points, ref=[math.log10(value) for value in WORST]))


def seconds_to(target: float, records: Sequence[Record]) -> float:
    """Seconds until the records, in the order of their ends, dominate `target`; NaN: never."""
    start = min(record.start for record in records)
    for number, record in enumerate(records, 1):
        if hypervolume(records[:number]) >= target:
            return record.end - start
    return math.nan


def _add_target(
    rows: list[Row], found: dict[str, list[list[Record]]], target: float | None
) -> None:
    """Add to each row when the hypervolume was reached, the median of its rounds."""
    if target is None:
        target = SHARE * min(row["hypervolume"] for row in rows)
    for row in rows:
        row["target_hypervolume"] = target
        row[TO_TARGET] = median(seconds_to(target, each) for each in found[row["name"]])


def _spread(plan: Plan, drawn: Sequence[Parameters], number: int) -> list[Config]:
    """`number` of the configurations drawn, evenly spread over their FLOPs."""
    configs = [plan.config(parameters, seed=plan.file.seed, device="cpu") for parameters in drawn]
    configs.sort(key=lambda config: exact_costs(config)["flops"])
    return [configs[(2 * i + 1) * len(configs) // (2 * number)] for i in range(number)]


def _reference(configs: list[Config], settings: reference.Settings, steps: int) -> Row:
    """The way of 2022, whose trials would take as long as its training does at the least."""

    def once() -> dict[str, float]:
        measured, peak = in_process(seconds_per_step, configs, settings, steps)
        step = mean(measured)
        return {
            "seconds_per_step": step,
            EXTRAPOLATED: 3600 / (step * settings.min_iterations),
            "peak_bytes": peak,
        }

    return in_turn({REFERENCE: once}, 1)[0]


def _ratios(rows: list[Row]) -> dict[str, float]:
    """Of seconds for a trial and seconds to the target; one of a target not reached is left out."""
    ratios = {}
    for name in (ONE, TWO):
        rate, reached = figure(rows, name, "trials_per_hour"), figure(rows, name, TO_TARGET)
        if rows[0]["name"] == REFERENCE:
            key = f"extrapolated seconds_per_trial, {REFERENCE} / {name}"
            ratios[key] = rate / figure(rows, REFERENCE, EXTRAPOLATED)
        for peer in (PLAIN, THREAD):
            key = f"seconds_per_trial, {peer} / {name}"
            ratios[key] = rate / figure(rows, peer, "trials_per_hour")
            ratios[f"{TO_TARGET}, {peer} / {name}"] = figure(rows, peer, TO_TARGET) / reached
    two, one = (figure(rows, name, "trials_per_hour") for name in (TWO, ONE))
    ratios[f"seconds_per_trial, {ONE} / {TWO}"] = two / one
    return {key: value for key, value in ratios.items() if math.isfinite(value)}
