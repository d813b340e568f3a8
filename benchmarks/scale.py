"""`clapp bench scale`: what a trial costs many workers beside its training, on one storage.

The workers are those of a study - sampler, storage, duplicates, the exact total - with trainings
that take no time and leave no files. They run on this machine and share its cores, so the figures
to carry elsewhere are the processor times and what the database did for a trial.
"""

import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import sqlalchemy

from benchmarks.driver import Watch, job_of, made_up_loss
from benchmarks.measure import Result, Row, in_process
from clapp.config import Config, Layer
from clapp.errors import ClappError

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

    from clapp.study.plan.plan import Plan
    from clapp.study.running.job import Job

STUDY = "sobel3"
TENTHS = 10
PARTS = ("sample", "read", "write")
"""Drawing parameters; reading the trials of all workers; storing what one trial came to."""


def run(storage: str | None, workers: int, trials: int, sampler: str) -> Result:
    """Run one study of `trials` trained trials on a storage where it does not exist yet.

    Args:
        storage: its URL; None: a journal in a temporary folder.

    Raises:
        ClappError: workers failed, or the total is not exact.
    """
    from clapp.front.trials import trained
    from clapp.study.plan.existing import load_existing
    from clapp.study.storage.storage import default_url

    plan = _plan(trials, sampler)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        url = storage or default_url(place)
        # In a process of its own, so that the workers inherit nothing of it.
        in_process(_create, url, place, trials, sampler)
        start = time.time()
        processes = _start(plan, url, place, workers)
        study = load_existing(plan.name, place, url)
        before = _database(url)
        for process in processes:
            process.join()
        failed = sum(process.exitcode != 0 for process in processes)
        if failed:
            raise ClappError(f"{failed} workers failed")
        found = study.get_trials(deepcopy=False)
        if trained(found) != trials:
            raise ClappError(f"{trained(found)} trials are trained instead of {trials}")
        after = _database(url)
        rows = _rows(_marks(place), start)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    total: Row = {"name": f"all, {workers} workers", "until_s": rows[-1]["until_s"]}
    total |= {"asked": len(found), "cpu_ms": 1000 * (used.ru_utime + used.ru_stime) / trials}
    total |= {key: (after[key] - before[key]) / trials for key in after}
    return Result([*rows, total], {})


def _plan(trials: int, sampler: str) -> "Plan":
    from clapp.study.plan.plan import make_plan

    given = {"budget": {"trials": trials}, "sampler": sampler}
    return make_plan(STUDY, overrides=[Layer("the benchmark", given)])


def _create(url: str, folder: Path, trials: int, sampler: str) -> None:
    import optuna

    from clapp.study.plan import definition
    from clapp.study.preparing import prepare
    from clapp.study.storage.storage import open_storage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(url)
    if STUDY in optuna.get_all_study_names(storage):
        raise ClappError(f"the storage holds a study named {STUDY} already")
    prepare.create_study(_plan(trials, sampler), storage, folder / definition.LOCKS)


def _start(plan: "Plan", url: str, folder: Path, workers: int) -> "list[ForkProcess]":
    """Start the workers: forked, for each would import the same for seconds."""

    job = replace(job_of(plan, url, folder, first=0), salt="benchmark")
    processes = [
        get_context("fork").Process(
            target=_worker, args=(replace(job, index=i, worker=f"benchmark-{i}"),)
        )
        for i in range(workers)
    ]
    for process in processes:
        process.start()
    return processes


def _worker(job: "Job") -> None:
    from optuna import Study

    from clapp.study.running import objective, worker
    from clapp.study.running.running_trial import RunningTrial
    from clapp.study.running.stop import Stop

    watch = Watch(PARTS, time.process_time)
    watch.sampling()
    watch.method(Study, "get_trials", "read")
    for name in ("store", "finish"):
        watch.method(RunningTrial, name, "write")
    setattr(objective, "keep", lambda *_: None)  # noqa: B010 - for the rest of this process
    path = Path(job.folder) / f"{job.worker}.jsonl"
    with path.open("w") as file, Path(os.devnull).open("w") as nowhere:
        worker.run(job, worker.Events(nowhere), Stop(), _stand_in(watch, file.write))


def _stand_in(watch: Watch, write: Callable[[str], Any]) -> Callable[..., Any]:
    """In place of a training: fresh weights, a made-up loss, a line about the trial before."""
    last = dict.fromkeys(("cpu", *PARTS), 0.0)

    def train(config: Config, report: Callable[[Any], bool], _weights: Any = None) -> Any:
        from clapp.config import identity
        from clapp.models.build import build_model
        from clapp.models.costs import cost

        now = {"cpu": time.process_time(), **{part: watch.parts[part] for part in PARTS}}
        write(json.dumps({"at": time.time(), **{k: now[k] - last[k] for k in now}}) + "\n")
        last.update(now)
        loss = made_up_loss(cost(config.model), identity(config))
        report(SimpleNamespace(step=1, seconds=0.0, l2=loss))
        return SimpleNamespace(
            loss=loss,
            spread=None,
            stop_reason="iterations",
            iterations=1,
            seconds=0.0,
            timings={},
            device="cpu",
            optimizer="adam",
            starts=0,
            model=build_model(config.model),
        )

    return train


def _marks(folder: Path) -> list[dict[str, float]]:
    """One mark for each training, in the order of time; each worker's first tells of its start."""
    lines = [path.read_text().splitlines()[1:] for path in folder.glob("*.jsonl")]
    return sorted((json.loads(line) for own in lines for line in own), key=lambda m: m["at"])


def _rows(marks: list[dict[str, float]], start: float) -> list[Row]:
    """A row for each tenth: processor milliseconds of a trial's worker, in all and by part."""
    bounds = [round(len(marks) * tenth / TENTHS) for tenth in range(TENTHS + 1)]
    rows: list[Row] = []
    for first, last in pairwise(bounds):
        share = marks[first:last]
        row: Row = {"name": f"trials {first + 1:,} to {last:,}", "until_s": share[-1]["at"] - start}
        for key in ("cpu", *PARTS):
            row[f"{key}_ms"] = 1000 * sum(mark[key] for mark in share) / len(share)
        rows.append(row)
    return rows


def _database(url: str) -> dict[str, int]:
    """What PostgreSQL has done for this database so far; nothing for other storages."""
    if not url.startswith("postgresql"):
        return {}
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    columns = ("xact_commit", "tup_returned", "tup_fetched", "tup_inserted", "tup_updated")
    query = f"SELECT {', '.join(columns)} FROM pg_stat_database WHERE datname = current_database()"  # noqa: S608
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        row = connection.exec_driver_sql(query).one()
    names = ("transactions", "rows_scanned", "rows_fetched", "rows_inserted", "rows_updated")
    return dict(zip(names, row, strict=True))
