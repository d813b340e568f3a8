"""The trials of a worker followed by trackers: a run for each that is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import Trial

from clapp.config import Config, differences
from clapp.errors import one_line
from clapp.study.keep import trial_folder
from clapp.trackers import Trackers

if TYPE_CHECKING:
    from collections.abc import Callable

    from clapp.study.job import Job
    from clapp.study.objective import Train
    from clapp.training import Report, TrainResult


class Followed:
    """The training of one trial after another, and the objective that trains by it."""

    def __init__(self, job: "Job", train: "Train") -> None:
        self._study, self._folder, self._train = job.name, Path(job.folder), train
        self._trackers = Trackers(job.log, self._folder)
        self._trial: Trial | None = None
        self._started = False

    def train(self, config: Config, report: "Report") -> "TrainResult":
        """Train, and follow it; see `clapp.training.train`."""
        assert self._trial is not None  # only an objective trains
        self._started = True
        name = f"trial-{self._trial.number:05d}"
        self._trackers.start(name, self._study, differences(config))
        return self._train(config, self._trackers.follow(report))

    def call(
        self, objective: "Callable[[Trial, float], list[float]]", trial: Trial, sampling: float
    ) -> list[float]:
        """Run a trial; a run that was started is finished, however the trial ends."""
        self._trial, self._started = trial, False
        summary: dict[str, Any] = {"outcome": "complete"}
        try:
            return objective(trial, sampling)
        except BaseException as error:
            summary["outcome"] = one_line(error)
            raise
        finally:
            if self._started:
                self._finish(trial, summary)

    def _finish(self, trial: Trial, summary: dict[str, Any]) -> None:
        from clapp.trialfiles import PREVIEW

        preview = trial_folder(self._folder, trial.number) / PREVIEW
        if preview.is_file():
            self._trackers.picture(preview)
        facts = trial.user_attrs
        known = ("loss", "params", "flops", "iterations", "seconds", "stop_reason")
        self._trackers.finish(summary | {name: facts[name] for name in known if name in facts})
