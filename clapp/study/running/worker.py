"""A worker process: trains trials of one study until its budget is spent.

Started as `python -m clapp.study.running.worker` with a `Job` as one line of JSON on standard
input. Standard input stays open: its end means that the driver died. Events go to standard output
as lines of JSON. Everything else, including what libraries print, goes to standard error, which is
the worker's log.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from clapp.errors import ClappError, ExhaustedError, FeederError, UserError
from clapp.study.running.job import Job
from clapp.study.running.stop import Stop
from clapp.system.process import prepare_process, reserve_output
from clapp.system.progress import tell, told_to

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from clapp.study.plan.plan import Plan
    from clapp.study.pruning.history import History
    from clapp.study.running.failures import TrialError
    from clapp.study.running.objective import Train
    from clapp.study.running.running_trial import RunningTrial
    from clapp.study.storage.signs import Silence

    Run = Callable[[RunningTrial, float], list[float]]

FAILURES_IN_A_ROW = 5
TOO_LARGE_IN_A_ROW = 50
SKIPS_IN_A_ROW = 200
POLL_SECONDS = 0.3
PROGRESS_SECONDS = 0.5


class Events:
    """Sends events to the driver as lines of JSON; progress events are thinned out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next_progress = 0.0
        self._lock = threading.Lock()  # other threads send progress, too

    def __call__(self, event: str, **data: Any) -> None:
        """Send one event."""
        now = time.monotonic()
        if event == "progress":
            if now < self._next_progress:
                return
            self._next_progress = now + PROGRESS_SECONDS
        try:
            with self._lock:
                self._stream.write(json.dumps({"event": event, **data}) + "\n")
                self._stream.flush()
        except BrokenPipeError:
            pass  # the driver died; `Stop` ends this worker


def work(study: "Study", objective: "Run", plan: "Plan", job: Job, stop: Stop) -> str:
    """Run trials until the worker has to end; returns the reason.

    Raises:
        UserError, FeederError: no trial can be trained.
    """
    from optuna.trial import TrialState

    from clapp.front.trials import count, last_skip, skips_in_a_row
    from clapp.study.plan.definition import LOCKS
    from clapp.study.pruning.history import History
    from clapp.study.running.failures import TooLargeError
    from clapp.study.storage.patience import all_trials
    from clapp.study.storage.retries import enqueue_again, enqueuing
    from clapp.study.storage.signs import Silence

    total, max_retry = plan.file.budget.trials, plan.file.max_retry
    failures: list[TrialError] = []  # in a row
    silence, history = Silence(), History()
    while True:
        if stop.requested:
            return "stopped"
        if job.deadline is not None and time.time() >= job.deadline:
            return "the study's time is over"
        trials = all_trials(study)
        history.read(trials)
        _let_go(study, history.open, job, silence, max_retry)
        done = history.trained()
        if done >= total:
            return "the budget is spent"
        if skips_in_a_row(trials, job.first) >= SKIPS_IN_A_ROW:
            return _over(
                plan,
                trials,
                f"{SKIPS_IN_A_ROW} trials in a row were skipped, the last for: "
                f"{last_skip(trials)}; nothing new seems to be left in the search space",
            )
        if done + count(history.open, TrialState.RUNNING) >= total:
            time.sleep(POLL_SECONDS)  # a running trial may still fail and be repeated
            continue
        if history.lost(max_retry):
            # First repeat trials of killed workers: the budget may not allow any other.
            with enqueuing(Path(job.folder) / LOCKS):
                enqueue_again(study, max_retry)
            continue
        try:
            failure = _run_one(study, history, objective, job)
        except ExhaustedError as error:
            return _over(plan, trials, str(error))
        failures = [*failures, failure] if failure else []
        too_large = sum(isinstance(failure, TooLargeError) for failure in failures)
        if too_large == TOO_LARGE_IN_A_ROW or len(failures) - too_large == FAILURES_IN_A_ROW:
            raise ClappError(f"{len(failures)} trials in a row failed, the last with: {failure}")


def _over(plan: "Plan", trials: "Sequence[FrozenTrial]", reason: str) -> str:
    """The reason why a search without new configurations ends.

    Raises:
        UserError: nothing was trained, because no configuration is within the limits.
    """
    from clapp.front.feasible import unmet_limits

    hindrance = unmet_limits(trials, plan.objectives, plan.limits)
    if hindrance is not None:
        raise UserError(f"study {plan.name}: {hindrance}")
    return reason


def _let_go(
    study: "Study",
    trials: "Sequence[FrozenTrial]",
    job: Job,
    silence: "Silence",
    max_retry: int,
) -> None:
    """Enqueue running trials again that no process works on, as far as this worker can tell.

    These are its own trials whose first or last write the storage refused (perhaps after storing
    it), and trials without a worker's name, because that write was refused or the worker died.
    """
    from clapp.study.running.running_trial import is_worked_on_by
    from clapp.study.storage.place import is_local
    from clapp.study.storage.retries import interrupt, killed

    for trial in trials:
        if is_worked_on_by(trial, job.worker):
            interrupt(study, trial, "what came out could not be stored")
        elif silence.is_nameless(trial, local=is_local(job.storage)):
            killed(study, trial, max_retry)


def _take(study: "Study", history: "History", worker: str) -> "RunningTrial":
    """Take a waiting trial, or begin a new one."""
    from optuna.trial import TrialState

    from clapp.front.trials import count
    from clapp.study.running.running_trial import ask, begin
    from clapp.study.sampling.evolution import Proposes

    if not isinstance(study.sampler, Proposes) or count(history.open, TrialState.WAITING):
        return ask(study, worker)
    return begin(study, worker, study.sampler.propose(history.trials))


def _run_one(study: "Study", history: "History", objective: "Run", job: Job) -> "TrialError | None":
    """Run one trial; returns the error if it failed."""
    from loguru import logger
    from optuna.exceptions import UpdateFinishedTrialError

    from clapp.front.record import INTERRUPTED

    tell("choosing what to try next")
    start = time.perf_counter()
    try:
        trial = _take(study, history, job.worker)
        failure = _to_its_end(trial, lambda: objective(trial, time.perf_counter() - start), job)
    except UpdateFinishedTrialError as error:
        # Another process failed this trial because it took this worker for dead.
        logger.warning(f"a trial was finished by another process: {error}")
        return None
    return None if str(failure).startswith(INTERRUPTED) else failure


def _to_its_end(
    trial: "RunningTrial", run: "Callable[[], list[float]]", job: Job
) -> "TrialError | None":
    """Run a trial and store its result; returns the error if it failed.

    Raises:
        UserError, FeederError: no trial can be trained.
        UpdateFinishedTrialError: another process has finished it.
    """
    from optuna.exceptions import TrialPruned
    from optuna.trial import TrialState

    from clapp.study.running.failures import TrialError, recorded
    from clapp.study.storage.place import is_local

    values, state, failure = None, TrialState.FAIL, None
    try:
        # If all workers use one folder, locks show which of them are alive; no signs of life are
        # needed.
        with recorded(trial), nullcontext() if is_local(job.storage) else trial.pulse():
            values = run()
        state = TrialState.COMPLETE
    except TrialPruned:
        state = TrialState.PRUNED
    except TrialError as error:
        failure = error
    except (UserError, FeederError):
        trial.finish(state)
        raise
    trial.finish(state, values)
    return failure


def run(job: Job, emit: Events, stop: Stop, train: "Train | None" = None) -> str:
    """Do a job; returns the reason of its end.

    Args:
        train: used instead of `clapp.training.trainer.train`.

    Raises:
        UserError, FeederError: no trial can be trained.
    """
    import optuna

    from clapp.study.plan.definition import LOCKS
    from clapp.study.plan.plan import plan_from
    from clapp.study.sampling.samplers import make_sampler
    from clapp.study.storage import liveness
    from clapp.study.storage.storage import open_storage, storage_lost

    if train is None:
        from clapp.training.trainer import train as real_train

        train = real_train
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # CLAPP logs failed trials itself
    plan = plan_from(job.name, job.document)
    with liveness.alive(Path(job.folder) / LOCKS, job.worker):
        storage = open_storage(job.storage, create=False)
        study = optuna.load_study(
            study_name=plan.name, storage=storage, sampler=optuna.samplers.RandomSampler()
        )
        emit("ready")
        plan = replace(plan, constant_loss=_constant_loss(study, plan))
        study.sampler = make_sampler(
            plan.file.sampler, plan, plan.seed, "sampler", job.index, job.first, job.salt
        )
        objective = _objective(plan, job, train, emit, stop)
        with storage_lost(job.storage):
            return work(study, objective, plan, job, stop)


def _constant_loss(study: "Study", plan: "Plan") -> float:
    """The loss of the best constant prediction, which the first worker writes to the study."""
    from clapp.front.objectives import CONSTANT_LOSS
    from clapp.pool.validation import constant_l2
    from clapp.study.storage.patience import patiently

    known: float | None = study.user_attrs.get(CONSTANT_LOSS)
    if known is not None:
        return known
    config = plan.config({}, seed=0, device=None)
    found = constant_l2(config.valid_data, config.target_filter, config.parameter)
    patiently(lambda: study.set_user_attr(CONSTANT_LOSS, found))
    return found


def _objective(plan: "Plan", job: Job, train: "Train", emit: Events, stop: Stop) -> "Run":
    from clapp.study.running.objective import Objective

    if not job.log:
        return Objective(plan, job, train, emit, stop)
    from clapp.study.running.followed import Followed

    followed = Followed(job, train)
    return partial(followed.call, Objective(plan, job, followed.train, emit, stop))


def main() -> int:
    """Entry point: 0 ended in order, 1 a defect, 2 the user's mistake."""
    emit, stop = Events(reserve_output()), Stop()
    text = sys.stdin.readline()
    stop.install()
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, format="{time:YYYY-MM-DD HH:mm:ss} {level} {message}", diagnose=False)
    prepare_process(threads=1)
    try:
        with told_to(lambda told: emit("doing", text=told)):
            emit("end", reason=run(Job(**json.loads(text)), emit, stop))
    except (ClappError, KeyboardInterrupt) as error:
        user = isinstance(error, UserError)
        emit("error", text=str(error), user=user)
        return 2 if user else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
