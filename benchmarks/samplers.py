"""`clapp bench samplers`: one study by several samplers, in real trainings of so much time each.

Each sampler runs the study as shipped, by `optimize.py`, with the same pruner, baselines and seeds;
only the sampler differs. The studies stay in a folder: the same call goes on after an interruption,
and one with more seeds or samplers runs only what is new.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from benchmarks.measure import Result, Row
from benchmarks.results import search
from clapp.errors import ClappError
from clapp.front.hypervolume import Moment, history
from clapp.study.plan.plan import Plan, make_plan
from clapp.system.files import write_text
from clapp.system.intervals import half_width
from clapp.system.strict_yaml import dump_yaml

_STDERR = 2


@dataclass(frozen=True)
class Run:
    """One search to its end.

    Attributes:
        moments: its hypervolume over time.
        allowed: seconds.
    """

    moments: list[Moment]
    allowed: float

    @property
    def end(self) -> float:
        """The hypervolume in the end."""
        return self.moments[-1].hypervolume if self.moments else 0.0

    def seconds_to(self, hypervolume: float) -> float:
        """Seconds until it was reached; inf: it never was."""
        reached = (moment.seconds for moment in self.moments if moment.hypervolume >= hypervolume)
        return next(reached, math.inf)


def run(
    study: str,
    samplers: Sequence[str],
    seeds: int,
    first_seed: int,
    timeout: str,
    workers: int,
    folder: Path,
) -> Result:
    """Search with each sampler and seed, in turn.

    Args:
        study: name or path.
        samplers: as a study's `sampler`; the first is compared with each of the others.
        seeds: of each sampler, from `first_seed` on.
        timeout: of each search, as a study's `budget.timeout`.
        folder: of the studies, which go on from what is there.

    Raises:
        UserError: there is no such study or sampler.
        ClappError: a search failed.
    """
    plans = {sampler: _plan(study, sampler, timeout) for sampler in samplers}
    runs: dict[str, list[Run]] = {sampler: [] for sampler in samplers}
    for seed in range(first_seed, first_seed + seeds):
        for sampler, plan in plans.items():
            runs[sampler].append(_searched(plan, sampler, seed, workers, folder))
    rows = [_row(name, found) for name, found in runs.items()]
    ours, *others = runs
    return Result(rows, {k: v for name in others for k, v in _ratios(ours, name, runs).items()})


def _plan(study: str, sampler: str, timeout: str) -> Plan:
    from clapp.config import Layer

    changes = {"sampler": sampler, "budget": {"timeout": timeout}}
    return make_plan(study, (), [Layer(f"--timeout {timeout} --sampler {sampler}", changes)])


def _searched(plan: Plan, sampler: str, seed: int, workers: int, folder: Path) -> Run:
    from clapp.study.plan.existing import load_existing

    name = f"{sampler}-{seed}"
    path = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, dump_yaml(plan.document() | {"seed": seed}))
    words = ["--study", str(path), "--results", str(folder), "--workers", str(workers)]
    if code := search(words, output=_STDERR):  # stdout is for the result
        raise ClappError(f"{name}: optimize.py ended with {code}; see above")
    return Run(history(load_existing(name, folder)), plan.file.budget.timeout or math.inf)


def _row(name: str, runs: Sequence[Run]) -> Row:
    ends = [run.end for run in runs]
    return {
        "name": name,
        "seeds": len(runs),
        "trials": mean(len(run.moments) for run in runs),
        "hypervolume": mean(ends),
        "hypervolume_interval": half_width(ends),
        "hypervolume_least": min(ends),
        "hypervolume_most": max(ends),
    }


def _ratios(ours: str, other: str, runs: dict[str, list[Run]]) -> dict[str, float]:
    """The other's whole time over ours until its mean end; 0: ours never gets there."""
    target = mean(run.end for run in runs[other])
    reached = [run.seconds_to(target) for run in runs[ours]]
    whole = runs[other][0].allowed
    return {
        f"seconds to the end of {other}, {other} / {ours} (median)": whole / median(reached),
        f"seconds to the end of {other}, {other} / {ours} (worst seed)": whole / max(reached),
    }
