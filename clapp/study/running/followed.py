"""Logs the trials of a worker to trackers: one tracked run for each trained trial."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clapp.config import Config, differences
from clapp.errors import one_line
from clapp.study.running.running_trial import RunningTrial
from clapp.study.storage.keep import trial_folder
from clapp.training.trackers import Trackers

if TYPE_CHECKING:
    from collections.abc import Callable

    from clapp.models.family import State
    from clapp.study.running.job import Job
    from clapp.study.running.objective import Train
    from clapp.training.trainer import Report, TrainResult


class Followed:
    """Trains one trial after another and reports each to the trackers."""

    def __init__(self, job: "Job", train: "Train") -> None:
        self._study, self._folder, self._train = job.name, Path(job.folder), train
        self._trackers = Trackers(job.log, self._folder)
        self._trial: RunningTrial | None = None
        self._started = False

    def train(
        self, config: Config, report: "Report", weights: "State | None" = None
    ) -> "TrainResult":
        """Train and report progress; see `clapp.training.trainer.train`."""
        assert self._trial is not None  # set while an objective runs, the only one to train
        self._started = True
        name = f"trial-{self._trial.number:05d}"
        self._trackers.start(name, self._study, differences(config))
        return self._train(config, self._trackers.follow(report), weights)

    def call(
        self,
        objective: "Callable[[RunningTrial, float], list[float]]",
        trial: RunningTrial,
        sampling: float,
    ) -> list[float]:
        """Run a trial. Its tracked run is closed even if the trial fails."""
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

    def _finish(self, trial: RunningTrial, summary: dict[str, Any]) -> None:
        from clapp.training.folder import PREVIEW, draw_pictures, is_model_folder

        folder = trial_folder(self._folder, trial.number)
        if is_model_folder(folder):
            draw_pictures(folder)
            self._trackers.picture(folder / PREVIEW)
        record = trial.record
        known = ("loss", "params", "flops", "iterations", "seconds", "stop_reason")
        facts = {name: getattr(record, name) for name in known}
        self._trackers.finish(summary | {k: v for k, v in facts.items() if v is not None})
