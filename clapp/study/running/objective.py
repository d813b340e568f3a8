"""One trial: draw a configuration, decide whether to train it, train it, save the result."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from optuna.exceptions import TrialPruned

from clapp.config import Config, differences, identity
from clapp.errors import ConfigError, one_line
from clapp.front.feasible import violations
from clapp.front.objectives import exact_costs, measured_costs, measured_names, results
from clapp.front.record import INTERRUPTED
from clapp.study.plan.plan import Plan
from clapp.study.pruning.decide import Records, Rules, Skip, before_training, over_limit
from clapp.study.pruning.history import History
from clapp.study.running.failures import failed, writing_results
from clapp.study.running.job import Job
from clapp.study.running.running_trial import RunningTrial
from clapp.study.running.stop import Stop
from clapp.study.running.watch import Emit, Watch
from clapp.study.storage.heritage import ancestor_of, inherited_weights, packed
from clapp.study.storage.keep import keep
from clapp.system.alone import Alone
from clapp.system.seeding import derived_seed
from clapp.training.provenance import processor, provenance

if TYPE_CHECKING:
    from clapp.models.family import State
    from clapp.training.trainer import Report, TrainResult

Train = Callable[[Config, "Report", "State | None"], "TrainResult"]


class Objective:
    """Runs the trials of one worker."""

    def __init__(self, plan: Plan, job: Job, train: Train, emit: Emit, stop: Stop) -> None:
        self._plan, self._job, self._train = plan, job, train
        self._emit, self._stop = emit, stop
        file = plan.file
        self._rules = Rules.of(plan, file.pruner, file.budget.trials, file.max_retry)
        self._names = {*plan.objectives, *plan.limits}
        self._violations: dict[str, float] = {}  # state of the present trial
        self._history, self._records = History(), Records(plan.objectives, plan.limits)
        self._alone = Alone() if measured_names(self._names) else None

    def __call__(self, trial: RunningTrial, sampling: float = 0.0) -> list[float]:
        """Run `trial`; returns its objectives in the order of the study file.

        It updates the trial's record and stores it when other workers need it. The caller stores
        the result.

        Args:
            sampling: seconds that the sampler took.

        Raises:
            TrialPruned: skipped, or stopped early; `skipped` or `stopped` of the record says why.
            TrialError: failed or interrupted; `failed` of the record says why.
            UserError, FeederError: no other trial can be trained or saved either.
        """
        if self._alone is None:
            return self._run(trial, sampling)
        with self._alone.work():
            return self._run(trial, sampling)

    def _run(self, trial: RunningTrial, sampling: float) -> list[float]:
        self._violations, start = {}, time.perf_counter()
        config = self._configure(trial)
        values = self._known_before(trial, config)
        if trial.drawn is None:
            trial.store()  # other workers must see its configuration
        history, rules = self._history, self._rules
        history.read(trial.trials())
        skip = before_training(rules, trial.number, trial.record, history, self._records)
        if skip is not None:
            self._skip(trial, skip)
        watch = Watch(
            trial, config, rules, self._job, self._emit, self._stop, history, self._records
        )
        watch.rest = self._alone.rest if self._alone is not None else None
        sample = round(sampling + time.perf_counter() - start, 4)
        weights = inherited_weights(config, ancestor_of(trial.record, history.trials))
        if weights is None:
            trial.note(parent=None, move=None)
        result = self._trained(trial, config, watch, weights)
        timings = {name: round(seconds, 4) for name, seconds in result.timings.items()}
        trial.note(
            iterations=result.iterations,
            optimizer=result.optimizer,
            starts=result.starts or None,
            seconds=round(result.seconds, 3),
            provenance=provenance(config, result.device),
        )
        if watch.verdict is None:
            found = results(result, self._names)
            values |= found
            others = {name: v for name, v in found.items() if name != "loss"}
            trial.note(
                loss=result.loss,
                **(result.spread.facts() if result.spread is not None else {}),
                weights=packed(result.model),
                stop_reason=result.stop_reason,
                others={**(trial.record.others or {}), **others} or None,
            )
            self._constrain(trial, found, trained=True)
            watch.keep_curve()
        start = time.perf_counter()
        folder = Path(self._job.folder)
        with writing_results(folder):
            keep(folder, trial.number, config, result)
        kept = round(time.perf_counter() - start, 4)
        trial.note(timings={"sample": sample, **timings, "keep": kept})
        if watch.verdict is not None:
            raise TrialPruned(f"stopped early: {watch.verdict}")
        return [values[name] for name in self._plan.objectives]

    def _configure(self, trial: RunningTrial) -> Config:
        changes = trial.draw(self._plan)
        seed = derived_seed(self._plan.file.seed, "trial", trial.number)
        try:
            config = self._plan.config(changes, seed, self._job.device)
        except ConfigError as error:
            self._skip(trial, Skip(f"invalid: {one_line(error)[:300]}"))
        trial.note(config=differences(config), key=identity(config))
        return config

    def _known_before(self, trial: RunningTrial, config: Config) -> dict[str, float]:
        """Compute the objectives that need no training, and check them against the limits."""
        values = exact_costs(config, {"params", "flops", *self._names})
        others = {name: v for name, v in values.items() if name not in ("params", "flops")}
        trial.note(params=int(values["params"]), flops=int(values["flops"]), others=others or None)
        self._constrain(trial, values)
        if self._alone is None:
            return values
        with self._alone.measure():
            measured = measured_costs(config, self._names)
        trial.note(others={**others, **measured}, measured_on=f"{processor()}, alone")
        self._constrain(trial, measured)
        return values | measured

    def _constrain(
        self, trial: RunningTrial, values: dict[str, float], *, trained: bool = False
    ) -> None:
        """Store by how much values exceed their limits, for Optuna; skip a trial not yet trained.

        Violations are relative, because Optuna adds those of different limits.
        """
        limits = self._rules.limits
        over = violations(values, limits)
        self._violations |= over
        # Our own sampler reads sizes and losses from the records instead.
        if over and (trial.drawn is None or max(over.values()) > 0):
            trial.constrain([*self._violations.values()])
        skip = None if trained else over_limit(values, limits)
        if skip is not None:
            self._skip(trial, skip)

    def _trained(
        self, trial: RunningTrial, config: Config, watch: Watch, weights: "State | None"
    ) -> "TrainResult":
        self._emit("trial", number=trial.number, limit=config.train.max_seconds)
        try:
            with self._stop.interrupts():
                result = self._train(config, watch, weights)
        except KeyboardInterrupt:
            raise failed(trial, f"{INTERRUPTED}: stopped by the user") from None
        except ConfigError as error:  # for example, the pictures are too small for this network
            self._skip(trial, Skip(f"invalid: {one_line(error)[:300]}"))
        if watch.duplicate is not None:
            self._skip(trial, Skip("duplicate", watch.duplicate))
        if watch.interrupted is not None:
            raise failed(trial, watch.interrupted)
        if result.stop_reason == "nan" or result.loss != result.loss:
            raise failed(trial, f"nan after {result.iterations} iterations")
        return result

    def _skip(self, trial: RunningTrial, skip: Skip) -> NoReturn:
        trial.note(skipped=skip.reason, duplicate_of=skip.duplicate_of)
        raise TrialPruned(f"skipped: {skip.reason}")
