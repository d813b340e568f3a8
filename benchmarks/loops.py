"""The ways of running one study that `clapp bench study` compares; each returns its records."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks import reference
from clapp.config import Config
from clapp.errors import ClappError, UserError
from clapp.front.objectives import exact_costs
from clapp.study.plan.plan import Plan, make_plan, plan_from
from clapp.study.sampling.draw import within_limits
from clapp.system.files import PACKAGE, write_text
from clapp.system.strict_yaml import dump_yaml

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

NAME = "bench"
_ATTEMPTS = 1000  # draws in a row that bring nothing new, before the space counts as exhausted

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """A trial trained to its end: when, in seconds since the epoch, and its objectives."""

    start: float
    end: float
    values: Sequence[float]


def draw(plan: Plan, number: int, seed: int) -> list[dict[str, Any]]:
    """Parameters of `number` different configurations within the study's limits, uniformly drawn.

    Raises:
        UserError: the space does not hold so many.
    """
    import optuna

    from clapp.config import identity

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found: dict[str, dict[str, Any]] = {}
    last = 0
    while len(found) < number:
        trial = study.ask()
        config = _within_limits(plan, trial)
        if config is not None and identity(config) not in found:
            found[identity(config)] = trial.params
            last = trial.number
        if trial.number - last > _ATTEMPTS:
            raise UserError(f"--trials {number}: the search space holds {len(found)} at most")
    return list(found.values())


def _within_limits(plan: Plan, trial: "Trial") -> Config | None:
    """The configuration of a trial, trained with a seed of its own; None: nothing to train."""
    from clapp.system.seeding import derived_seed

    seed = derived_seed(plan.file.seed, "trial", trial.number)  # as in a study of ours
    found = within_limits(plan, trial, seed)
    return None if found is None else found[1]


def plain_loop(
    document: Mapping[str, Any],
    enqueued: Sequence[Parameters] | None,
    cache: Path,
    threads: int | None = None,
) -> list[Record]:
    """A loop around `clapp.train` in this process, as Optuna's tutorial has it.

    Args:
        document: of the plan.
        enqueued: what to train; None: what Optuna's default TPE draws.
        cache: the folder of the pool.
        threads: of torch; None: as many as it takes by itself.
    """
    os.environ["CLAPP_CACHE"] = str(cache)
    import optuna
    import torch

    from clapp.training.trainer import train

    if threads is not None:
        torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a loss of NaN is a warning
    plan = plan_from(NAME, document)
    budget = plan.file.budget
    study = optuna.create_study(
        directions=["minimize"] * len(plan.file.objectives),
        sampler=optuna.samplers.TPESampler(seed=plan.file.seed),
    )
    for parameters in enqueued or ():
        study.enqueue_trial(dict(parameters))

    def objective(trial: "Trial") -> list[float]:
        config = _within_limits(plan, trial)
        if config is None:
            raise optuna.TrialPruned
        values = {"loss": train(config).loss, **exact_costs(config)}
        return [values[name] for name in plan.file.objectives]

    def enough(study: "Study", _: "FrozenTrial") -> None:
        if len(records(study)) >= budget.trials:
            study.stop()

    total = None if enqueued is None else len(enqueued)
    study.optimize(objective, n_trials=total, timeout=budget.timeout, callbacks=[enough])
    return records(study)


def our_study(
    document: Mapping[str, Any],
    enqueued: Sequence[Parameters] | None,
    cache: Path,
    workers: int,
) -> list[Record]:
    """`optimize.py` in a process of its own.

    Args:
        document: of the plan.
        enqueued: what to train; None: what the study's sampler draws.
        cache: the folder of the pool.

    Raises:
        ClappError: it did not end in order.
    """
    from clapp.study.plan.existing import load_existing

    with TemporaryDirectory(prefix="clapp-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        path = folder / f"{NAME}.yaml"
        write_text(path, dump_yaml(dict(document)))
        if enqueued is not None:
            _enqueue(make_plan(str(path)), folder / NAME, enqueued)
        _optimize(path, cache, workers)
        return records(load_existing(NAME, folder), only_enqueued=enqueued is not None)


def _optimize(path: Path, cache: Path, workers: int) -> None:
    """Run the study of a file; its results go beside the file."""
    command = [sys.executable, "-m", "clapp.commands.optimize", "--study", str(path)]
    command += ["--results", str(path.parent), "--workers", str(workers)]
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"CLAPP_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["(no message)"]
        raise ClappError(f"optimize.py ended with code {done.returncode}: {lines[-1]}")


def _enqueue(plan: Plan, folder: Path, parameters: Sequence[Parameters]) -> None:
    """Create the study as its driver would, with trials that wait."""
    from clapp.study.plan.definition import LOCKS
    from clapp.study.preparing.prepare import create_study, make_folder
    from clapp.study.storage.storage import default_url, open_storage

    make_folder(folder)
    study = create_study(plan, open_storage(default_url(folder)), folder / LOCKS)
    for each in parameters:
        study.enqueue_trial(dict(each))


def records(study: "Study", *, only_enqueued: bool = False) -> list[Record]:
    """The trials of `study` that were trained to their end, by the time they did.

    Args:
        only_enqueued: without those drawn in place of trials that failed.
    """
    from optuna.trial import TrialState

    from clapp.front.trials import is_enqueued

    found = [
        Record(trial.datetime_start.timestamp(), trial.datetime_complete.timestamp(), trial.values)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial.datetime_start is not None
        and trial.datetime_complete is not None
        and (is_enqueued(trial) or not only_enqueued)
    ]
    return sorted(found, key=lambda record: record.end)


def seconds_per_step(
    configs: Sequence[Config], settings: reference.Settings, steps: int
) -> list[float]:
    """What a step of the training of 2022 takes with each configuration, in this process."""
    with reference.Buffers(configs[0], settings) as buffers:
        trained = [
            reference.train(
                config.model,
                buffers,
                settings,
                config.train.seed,
                steps=steps,
                warm_up=settings.validation_interval,
            )
            for config in configs
        ]
    return [each.seconds / each.steps for each in trained]
