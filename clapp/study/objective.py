"""One trial: draw a configuration, decide whether to train it, train, keep what came out."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from optuna.exceptions import TrialPruned
from optuna.trial import FrozenTrial, Trial

from clapp.config import Config, differences, identity
from clapp.costs import cost
from clapp.errors import ConfigError, one_line
from clapp.measure import measure
from clapp.provenance import provenance
from clapp.study.artifacts import open_artifacts
from clapp.study.failures import failed, writing_results
from clapp.study.job import Job
from clapp.study.keep import keep
from clapp.study.plan import Plan
from clapp.study.sampler import derived_seed
from clapp.study.stop import Stop
from clapp.study.trials import INTERRUPTED, SURPLUS, is_enqueued, is_trained, lost
from clapp.study.watch import Emit, Records, Watch, same

if TYPE_CHECKING:
    from clapp.training import Report, TrainResult

Train = Callable[[Config, "Report"], "TrainResult"]


class Objective:
    """Optuna's objective function for the trials of one worker."""

    def __init__(self, plan: Plan, job: Job, train: Train, emit: Emit, stop: Stop) -> None:
        self._plan, self._job, self._train = plan, job, train
        self._emit, self._stop = emit, stop
        self._limits = plan.file.limits.given()
        self._violations: dict[str, float] = {}  # of the present trial
        self._records = Records(plan.file.objectives)
        self._artifacts = open_artifacts(job.artifacts, Path(job.folder))

    def __call__(self, trial: Trial, sampling: float = 0.0) -> list[float]:
        """Run `trial`; its objectives in the order of the study file.

        Args:
            sampling: seconds spent on asking for it.

        Raises:
            TrialPruned: skipped; the user attribute `skipped` says why.
            TrialError: failed or interrupted; the user attribute `failed` says why.
            UserError, FeederError: nothing else can be trained or kept either.
        """
        self._violations, start = {}, time.perf_counter()
        trial.set_user_attr("worker", self._job.worker)
        config = self._configure(trial)
        values = self._known_before(trial, config)
        # Now, so that the others see this one's configuration.
        trials = trial.study.get_trials(deepcopy=False)
        self._within_budget(trial, trials)
        self._not_twice(trial, trials)
        watch = Watch(trial, config, self._plan, self._job, self._emit, self._stop, self._records)
        if watch.hopeless(trials):
            self._skip(trial, "hopeless: a model no larger is as good as 8 bits can tell")
        timings = {"sample": round(sampling + time.perf_counter() - start, 4)}
        result = self._trained(trial, config, watch, timings)
        values["loss"] = result.loss
        for name, value in (
            ("stop_reason", result.stop_reason),
            ("iterations", result.iterations),
            ("seconds", round(result.seconds, 3)),
            ("loss", result.loss),
            ("provenance", provenance(config, result.device)),
        ):
            trial.set_user_attr(name, value)
        if "loss" in self._limits:
            self._constrain(trial, {"loss": result.loss})
        watch.keep_curve()
        start = time.perf_counter()
        self._keep(trial, config, result, values)
        timings["keep"] = round(time.perf_counter() - start, 4)
        trial.set_user_attr("timings", timings)
        return [values[name] for name in self._plan.file.objectives]

    def _within_budget(self, trial: Trial, trials: list[FrozenTrial]) -> None:
        """Make the total exact without a lock.

        Numbers are given one after another, so every trial sees all with smaller ones. Of those
        that go on, the last had fewer than the budget before it that were trained or may yet be.
        One that was drawn also leaves room for those to be tried again.
        """
        drawn = not is_enqueued(trials[trial.number])
        ahead = sum(
            is_trained(t) or not t.state.is_finished()
            for t in trials
            if t.number < trial.number or (drawn and is_enqueued(t))
        )
        if drawn:
            ahead += len(lost(trials, self._plan.file.max_retry))
        if ahead >= self._plan.file.budget.trials:
            self._skip(trial, SURPLUS)

    def _configure(self, trial: Trial) -> Config:
        baseline = trial.user_attrs.get("baseline")
        if baseline is None:
            changes: dict[str, Any] = self._plan.space.suggest(trial, self._plan.base)
        else:
            changes = self._plan.baseline(baseline)
            # Enqueued, so that nothing is drawn.
            self._plan.space.resuggest(trial, self._plan.baseline_parameters(baseline))
        seed = derived_seed(self._plan.file.seed, "trial", trial.number)
        try:
            config = self._plan.config(changes, seed, self._job.device)
        except ConfigError as error:
            self._skip(trial, f"invalid: {one_line(error)[:300]}")
        trial.set_user_attr("config", differences(config))
        trial.set_user_attr("key", identity(config))
        return config

    def _not_twice(self, trial: Trial, trials: list[FrozenTrial]) -> None:
        original = same(trial, trials)
        if original is not None:
            trial.set_user_attr("duplicate_of", original)
            self._skip(trial, "duplicate")

    def _known_before(self, trial: Trial, config: Config) -> dict[str, float]:
        """The objectives that need no training, checked against the study's limits."""
        file = self._plan.file
        params, flops = cost(config.model)
        values: dict[str, float] = {"params": params, "flops": flops}
        trial.set_user_attr("params", params)
        trial.set_user_attr("flops", flops)
        self._constrain(trial, values)
        if {"latency", "memory"} & {*file.objectives, *self._limits}:
            measured = measure(config.model)
            timed = {"latency": measured.latency_ms, "memory": float(measured.memory_bytes)}
            self._constrain(trial, timed)
            values |= timed
        return values

    def _constrain(self, trial: Trial, values: dict[str, float]) -> None:
        """Tell Optuna how far values are over their limits; a trial yet to be trained is skipped.

        Violations are relative, since Optuna adds those of different limits.
        """
        over = {
            name: values[name] / limit - 1 for name, limit in self._limits.items() if name in values
        }
        if not over:
            return
        for name, violation in over.items():
            trial.set_constraint(name, violation)
        self._violations |= over
        # The dashboard reads only this older form, in which constraints have no names.
        shown = list(self._violations.values())
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", shown)
        worst = max(over, key=lambda name: over[name])
        if over[worst] > 0 and worst != "loss":
            limit = self._limits[worst]
            self._skip(trial, f"limit: {worst} {values[worst]:g} exceeds {limit:g}")

    def _trained(
        self, trial: Trial, config: Config, watch: Watch, timings: dict[str, float]
    ) -> "TrainResult":
        self._emit("trial", number=trial.number, limit=config.train.max_seconds)
        try:
            with self._stop.interrupts():
                result = self._train(config, watch)
        except KeyboardInterrupt:
            raise failed(trial, f"{INTERRUPTED}: stopped by the user") from None
        except ConfigError as error:  # such as pictures too small for this network
            self._skip(trial, f"invalid: {one_line(error)[:300]}")
        if watch.duplicate is not None:
            trial.set_user_attr("duplicate_of", watch.duplicate)
            self._skip(trial, "duplicate")
        if watch.interrupted is not None:
            raise failed(trial, watch.interrupted)
        timings |= {name: round(seconds, 4) for name, seconds in result.timings.items()}
        if result.stop_reason == "nan" or result.loss != result.loss:
            raise failed(trial, f"nan after {result.iterations} iterations")
        if watch.verdict is not None:
            trial.set_user_attr("timings", timings)
            trial.set_user_attr("iterations", result.iterations)
            trial.set_user_attr("provenance", provenance(config, result.device))
            known = {name: trial.user_attrs[name] for name in ("params", "flops")}
            loss = {"loss": result.loss}
            self._keep(trial, config, result, loss | known)
            raise TrialPruned(f"stopped early: {watch.verdict}")
        return result

    def _keep(
        self, trial: Trial, config: Config, result: "TrainResult", values: dict[str, float]
    ) -> None:
        folder = Path(self._job.folder)
        with writing_results(folder):
            keep(trial, folder, self._artifacts, config, result, values)

    def _skip(self, trial: Trial, reason: str) -> NoReturn:
        trial.set_user_attr("skipped", reason)
        raise TrialPruned(f"skipped: {reason}")
