"""Compare samplers and pruners on recorded curves, over many seeds."""

import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clapp.errors import UserError
from clapp.replay.rules import ONLY_HERE
from clapp.replay.simulate import Outcome, Search
from clapp.replay.surrogate import Surrogate
from clapp.replay.table import read
from clapp.study.plan.plan import Plan, plan_from
from clapp.study.pruning.pruners import PRUNERS, parse
from clapp.study.sampling.samplers import SAMPLERS, make_sampler
from clapp.system.intervals import half_width
from clapp.system.process import prepare_process
from clapp.system.progress import tell
from clapp.system.seeding import derived_seed

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

PLAIN = "optuna"
"""TPE with Optuna's default settings."""
AUTO = "auto"
"""What OptunaHub's AutoSampler chooses where trials have different keys: TPE that treats them
together and is aware of running trials (its `_sampler.py`, 2026)."""
REACHED = 0.99


def sampler_names() -> list[str]:
    """The names that `--sampler` takes."""
    return [*(name for name in SAMPLERS if name != "grid"), PLAIN, AUTO]


def pruner_names() -> list[str]:
    """The names that `--pruner` takes."""
    return [*PRUNERS, *ONLY_HERE]


@dataclass(frozen=True)
class Task:
    """One simulated search."""

    table: Path
    sampler: str
    pruner: str
    seed: int
    seconds: float
    workers: int


def compare(
    table: Path,
    samplers: Sequence[str],
    pruners: Sequence[str],
    seeds: Iterable[int],
    seconds: float,
    workers: int,
    processes: int,
) -> dict[tuple[str, str], list[Outcome]]:
    """Simulate every sampler with every pruner from every seed.

    Args:
        seconds: simulated time of a search by `workers` workers.
        processes: processes of this machine that share the work.

    Raises:
        UserError: an unknown name, or not a table.
    """
    for kind, names, known in (
        ("--sampler", samplers, sampler_names()),
        ("--pruner", pruners, pruner_names()),
    ):
        for name in names:
            if name not in known:
                raise UserError(f"{kind} {name}: allowed: {', '.join(known)}")
    read(table)
    pairs = list(product(samplers, pruners))
    tasks = [Task(table, *pair, seed, seconds, workers) for seed in seeds for pair in pairs]
    found: dict[tuple[str, str], list[Outcome]] = {pair: [] for pair in pairs}
    # Spawn: a fork would inherit the libraries' threads in an unknown state.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for task, outcome in zip(tasks, pool.map(simulate, tasks), strict=True):
            found[task.sampler, task.pruner].append(outcome)
            tell(f"simulated {sum(map(len, found.values()))} of {len(tasks)} searches")
    return found


def simulate(task: Task) -> Outcome:
    """Simulate one search."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan, surrogate = _loaded(task.table)
    seeded = replace(plan, file=plan.file.model_copy(update={"seed": task.seed}))
    here = ONLY_HERE.get(task.pruner)
    pruner = parse(task.pruner) if here is None else here()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        search = Search(seeded, surrogate, _sampler(task, seeded), pruner)
        return search.go(task.seconds, task.workers)


def _sampler(task: Task, plan: Plan) -> "BaseSampler":
    if task.sampler in (PLAIN, AUTO):
        from optuna.samplers import TPESampler

        auto = task.sampler == AUTO
        return TPESampler(
            multivariate=auto,
            constant_liar=auto,
            seed=derived_seed("replay", task.seed),
        )
    return make_sampler(task.sampler, plan, "replay", task.seed)


@cache
def _loaded(path: Path) -> tuple[Plan, Surrogate]:
    """The plan of the recorded study, with the loss of the best constant, and its surrogate."""
    prepare_process(threads=1)
    table = read(path)
    plan = plan_from("replay", table.study)
    return replace(plan, constant_loss=table.mean), Surrogate(table)


def summary(
    found: dict[tuple[str, str], list[Outcome]], seconds: float, peers: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """A row for each sampler and pruner.

    Each row: `hypervolume` at the end, mean and the half width of its 95 % interval over seeds;
    `trials` trained; `stopped` of them; `lost`, the share of the stopped ones that would have been
    on the final front; and for each peer, `reached`: the median of the simulated seconds until
    99 % of the mean hypervolume of the peer's full run, infinite where fewer than half of the seeds
    got there.
    """
    goals = {
        pair: REACHED * float(np.mean([o.at(seconds) for o in found[pair]]))
        for pair in peers
        if pair in found
    }
    rows = []
    for (sampler, pruner), outcomes in found.items():
        final = np.array([outcome.at(seconds) for outcome in outcomes])
        stopped = sum(outcome.stopped for outcome in outcomes)
        lost = sum(outcome.lost for outcome in outcomes)
        rows.append(
            {
                "sampler": sampler,
                "pruner": pruner,
                "seeds": len(outcomes),
                "hypervolume": float(final.mean()),
                "interval": half_width(final),
                "trials": float(np.mean([len(outcome.seconds) for outcome in outcomes])),
                "stopped": stopped / len(outcomes),
                "lost": lost / stopped if stopped else 0.0,
                "reached": {
                    "/".join(pair): float(np.median([o.time_to(goal) for o in outcomes]))
                    for pair, goal in goals.items()
                },
            }
        )
    return rows
