"""`clapp bench driver`: what a trial of a study costs beside its training.

Ours is a worker of the study sobel3 as it is - storage, duplicates, limits, saved files and
pictures - except for the training: its place take fresh weights and a made-up loss, whose time does
not count. The peer is the loop of Optuna's manual: its default sampler and SQLite storage on the
same search space, duplicates and all, with nothing saved. Skipped trials have no figure of their
own: they are part of what the trained ones cost.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Result, Row, figure, in_process, in_turn
from clapp.config import Config, Layer, nest

if TYPE_CHECKING:
    from optuna import Trial

    from clapp.models.costs import Cost
    from clapp.study.plan.plan import Plan
    from clapp.study.running.job import Job
    from clapp.training.trainer import Progress, TrainResult

STUDY = "sobel3"
OURS, PEER = "ours", "plain Optuna"
SHARE = 0.1
"""Of the trials, the last ones: what a trial costs in a study as large as that."""

PARTS = ("ask", "sample", "objective", "keep")
"""Creating the trial with its parameters; drawing those; duplicates, limits, its record; its files.
What remains, the rest, is storing the values and the loop around all of it."""


def run(trials: list[int], repeats: int) -> Result:
    """Measure studies of each number of trained trials; each starts anew, in a fresh process."""
    runs: dict[str, Callable[[], dict[str, float]]] = {}
    for number in trials:
        runs[_label(OURS, number)] = partial(_measured, _ours, number)
        runs[_label(PEER, number)] = partial(_measured, _plain, number)
    rows = in_turn(runs, repeats)
    return Result(rows, _ratios(rows, trials))


def _label(name: str, number: int) -> str:
    return f"{name}, {number:,} trials"


def _ratios(rows: list[Row], trials: list[int]) -> dict[str, float]:
    compared = {"ms": "all", "last_tenth_ms": "last tenth", "sample_ms": "sampling"}
    ratios = {}
    for number in trials:
        ours, peer = _label(OURS, number), _label(PEER, number)
        for key, what in compared.items():
            least = figure(rows, ours, key)
            if least:  # nothing is sampled while there are baselines
                ratio = figure(rows, peer, key) / least
                ratios[f"{PEER} / {OURS}, {number:,} trials, {what}"] = ratio
    return ratios


def _measured(study: Callable[[int, Path], dict[str, float]], number: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        figures, peak = in_process(study, number, Path(folder))
    return figures | {"peak_mib": peak / 2**20}


class Watch:
    """Seconds spent on each part of a study, and how far it was when.

    A part that runs within another counts for itself alone.
    """

    def __init__(
        self, parts: tuple[str, ...] = PARTS, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.parts: dict[str, float] = dict.fromkeys(("train", *parts), 0.0)
        self._clock = clock
        self.marks: list[float] = []  # seconds without training, at the start and at each trial
        self._within = 0.0  # seconds of the parts inside the present one
        self.mark()

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time the block takes to a part."""
        start, outer = self._clock(), self._within
        self._within = 0.0
        try:
            yield
        finally:
            seconds = self._clock() - start
            self.parts[part] += seconds - self._within
            self._within = outer + seconds

    def method(self, owner: Any, name: str, part: str) -> None:
        """Time every call of an attribute of `owner`, for the rest of this process."""
        function = getattr(owner, name)

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timed(part):
                return function(*args, **kwargs)

        setattr(owner, name, timed)

    def optuna(self) -> None:
        """Time what Optuna does for each trial."""
        from optuna import Study

        self.method(Study, "ask", "ask")
        self.sampling()

    def sampling(self) -> None:
        """Time what samplers do for each trial."""
        from optuna.samplers import RandomSampler, TPESampler

        from clapp.study.sampling.evolution import Evolution
        from clapp.study.sampling.front_trees import FrontSampler

        for proposing in (Evolution, FrontSampler):
            self.method(proposing, "propose", "sample")
        for sampler in (Evolution, FrontSampler, RandomSampler, TPESampler):
            for name in ("infer_relative_search_space", "sample_relative", "sample_independent"):
                self.method(sampler, name, "sample")

    def mark(self) -> None:
        """A trial is trained."""
        self.marks.append(self._clock() - self.parts["train"])

    def figures(self) -> dict[str, float]:
        """Milliseconds a trained trial, in all and by part; called when the study has ended."""
        trained = len(self.marks) - 1
        total = self._clock() - self.parts["train"] - self.marks[0]
        last = max(1, round(trained * SHARE))
        tenth = (self.marks[-1] - self.marks[-1 - last]) / last
        parts = {part: self.parts[part] / trained for part in PARTS}
        rest = total / trained - sum(parts.values())
        seconds = {"ms": total / trained, "last_tenth_ms": tenth}
        seconds |= {f"{part}_ms": value for part, value in (*parts.items(), ("rest", rest))}
        return {key: 1000 * value for key, value in seconds.items()}


def _ours(number: int, folder: Path) -> dict[str, float]:
    """A worker on a fresh study."""
    import optuna

    from clapp.study.plan import definition
    from clapp.study.preparing import prepare
    from clapp.study.running import objective, worker
    from clapp.study.running import running_trial as running
    from clapp.study.running.stop import Stop
    from clapp.study.storage.storage import default_url, open_storage
    from clapp.system.process import prepare_process

    prepare_process(threads=1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan, url = _plan_of(number), default_url(folder)
    study = prepare.create_study(plan, open_storage(url), folder / definition.LOCKS)
    job = job_of(plan, url, folder, first=len(study.get_trials()))
    _load_what_a_worker_has()
    watch = Watch()
    watch.optuna()
    watch.method(running, "begin", "ask")
    watch.method(objective.Objective, "__call__", "objective")
    watch.method(objective, "keep", "keep")
    with Path(os.devnull).open("w") as nowhere:
        worker.run(job, worker.Events(nowhere), Stop(), partial(_untrained, watch))
    return watch.figures() | {"asked": len(study.get_trials(deepcopy=False))}


def _plan_of(number: int) -> "Plan":
    from clapp.study.plan.plan import make_plan

    return make_plan(STUDY, overrides=[Layer("the benchmark", {"budget": {"trials": number}})])


def job_of(plan: "Plan", url: str, folder: Path, first: int) -> "Job":
    """A worker's part of a benchmark's study."""
    from clapp.study.running.job import Job

    return Job(
        name=plan.name,
        document=plan.document(),
        storage=url,
        folder=str(folder),
        artifacts=None,
        device="cpu",
        deadline=None,
        first=first,
        salt="",
        worker="benchmark",
    )


def _load_what_a_worker_has() -> None:
    """Import what the first trial would, once for a whole study."""


def _untrained(
    watch: Watch, config: Config, report: "Callable[[Progress], bool]", _weights: Any = None
) -> "TrainResult":
    """In place of `clapp.training.trainer.train`: fresh weights, a made-up loss, one report."""
    from clapp.config import identity
    from clapp.models.build import build_model
    from clapp.models.costs import cost
    from clapp.pool.validation import validation_set
    from clapp.training.trainer import Point, Progress, TrainResult

    with watch.timed("train"):
        validation_set(config.valid_data, config.target_filter)  # loaded by every training
        model = build_model(config.model).eval()
        loss = made_up_loss(cost(config.model), identity(config))
        point = Point(1, 0.0, loss, loss, loss, config.train.learning_rate)
    report(Progress(1, 0, 0.0, loss, loss, loss, model))
    watch.mark()
    return TrainResult(
        model=model,
        loss=loss,
        ema=loss,
        stop_reason="iterations",
        iterations=1,
        images=0,
        seconds=0.0,
        timings={},
        curve=[point],
        device="cpu",
        optimizer="adam",
        starts=0,
    )


def made_up_loss(cost: "Cost", key: str) -> float:
    """A loss that falls with the parameters and scatters over two decades, as found losses do.

    It follows from its arguments, so that a search has something to learn and a front forms.
    """
    digest = sha256(key.encode()).digest()
    scatter = float(100 ** (int.from_bytes(digest[:4], "big") / 2**32))
    return 0.02 * scatter / float(max(cost.params, 1) ** 0.5)


def _plain(number: int, folder: Path) -> dict[str, float]:
    """Optuna by itself on the same space, objectives and made-up loss."""
    import optuna

    from clapp.errors import ConfigError
    from clapp.models.costs import cost

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = _plan_of(number)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        directions=["minimize"] * len(plan.file.objectives),
        sampler=optuna.samplers.TPESampler(seed=0),  # of three random draws all may be invalid
    )
    watch = Watch()
    watch.optuna()

    def objective(trial: "Trial") -> tuple[float, int, int]:
        with watch.timed("objective"):
            drawn = plan.space.suggest(trial, plan.base)
            try:
                size = cost(nest({**plan.base, **drawn})["model"])
            except ConfigError as error:  # a combination that no network can have
                raise optuna.TrialPruned from error
            watch.mark()
            return made_up_loss(size, str(drawn)), size.params, size.flops

    study.optimize(objective, n_trials=number)
    return watch.figures() | {"asked": len(study.get_trials(deepcopy=False))}
