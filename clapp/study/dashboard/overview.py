"""A study's pages in the dashboard: a note about its state, and its graphs."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import optuna
from loguru import logger

from clapp.errors import one_line
from clapp.front.hypervolume import history
from clapp.front.outcomes import candidates, counts, front, objectives, reference_of
from clapp.front.record import NOTED, record_of
from clapp.front.trials import is_trained
from clapp.study.dashboard import graphs
from clapp.study.dashboard.study_note import Standing, merged
from clapp.study.dashboard.trial_note import trial_note
from clapp.study.plan.definition import DEFINITION
from clapp.study.storage.storage import storage_of, trial_id

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from clapp.study.dashboard.trial_files import TrialFiles

INTERVAL, SHARE = 10.0, 0.05
"""Least seconds between two updates of the pages, and the most share of time spent on updates."""


class Overview:
    """Updates the pages of one study, in the process that serves the dashboard."""

    def __init__(self, study: "Study", files: "TrialFiles | None" = None, where: str = "") -> None:
        """`where`: the options by which commands find the study."""
        self._study, self._files, self._where = study, files, where
        self._graphs: dict[str, graphs.Figure] = {}
        self._finished = -1
        self._over = threading.Event()

    def refresh(self, *, at_once: bool = False) -> None:
        """Update notes and graphs; errors are only logged, since no trial depends on the pages.

        Args:
            at_once: update only the pages viewed first: the study's page, and notes of the front.
        """
        try:
            trials = self._study.get_trials(deepcopy=False)
            finished = sum(trial.state.is_finished() for trial in trials)
            if finished != self._finished:
                self._write(trials, at_once)
                self._finished = -1 if at_once else finished
        except Exception as error:
            logger.warning(
                f"the study's page in the dashboard is not up to date: {one_line(error)}"
            )

    @contextmanager
    def kept_up_to_date(self) -> Iterator[None]:
        """Refresh in a thread while the block runs."""

        def keep() -> None:
            pause = 0.0
            while not self._over.wait(pause):
                start = time.monotonic()
                self.refresh()
                pause = max(INTERVAL, (time.monotonic() - start) / SHARE)

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _write(self, trials: "Sequence[FrozenTrial]", at_once: bool) -> None:
        from optuna_dashboard import (  # type: ignore[import-untyped]
            get_note,
            save_note,
            save_plotly_graph_object,
        )
        from plotly.graph_objects import Figure  # type: ignore[import-untyped]

        standing, figures = _standing(self._study, self._where)
        for name, figure in figures.items():
            if self._graphs.get(name) != figure:
                save_plotly_graph_object(self._study, Figure(figure), graph_object_id=name)
        self._graphs = figures
        text = merged(standing, get_note(self._study))
        if text is not None:
            save_note(self._study, text)
        if self._files is not None:
            front = {one.trial for one in standing.front}
            chosen = [t for t in trials if t.number in front or not at_once]
            self._write_trial_notes(chosen, front, self._files)

    def _write_trial_notes(
        self, trials: "Sequence[FrozenTrial]", front: set[int], files: "TrialFiles"
    ) -> None:
        """Give each trained trial a note, those of the front first."""
        from optuna_dashboard import save_note

        noted = set(self._study.user_attrs.get(NOTED, ()))
        fresh = [t for t in trials if t.number not in noted and is_trained(t)]
        plain = optuna.load_study(
            study_name=self._study.study_name,
            storage=storage_of(self._study),
            sampler=optuna.samplers.RandomSampler(),  # never asked: notes draw no parameters
        )
        for trial in sorted(fresh, key=lambda t: (t.number not in front, t.number)):
            if self._over.is_set():
                break
            note = trial_note(record_of(trial), files.addresses(trial.number))
            save_note(optuna.Trial(plain, trial_id(self._study, trial.number)), note)
            noted.add(trial.number)
        if fresh:
            self._study.set_user_attr(NOTED, sorted(noted))


def _standing(study: "Study", where: str) -> tuple[Standing, dict[str, graphs.Figure]]:
    names = objectives(study)
    found, reference, moments = candidates(study), reference_of(study), history(study)
    best = front(found, names)
    trials = study.get_trials(deepcopy=False)
    curves = {one.trial: record_of(trials[one.trial]).curve for one in best}
    figures = {}
    if best and len(names) > 1:
        figures["front"] = graphs.front_graph(found, best, reference)
    if moments:
        figures["hypervolume"] = graphs.hypervolume_graph(moments)
    if any(curves.values()):
        figures["curves"] = graphs.curves_graph(best, curves)
    standing = Standing(
        name=study.study_name,
        id=storage_of(study).get_study_id_from_name(study.study_name),
        definition=study.user_attrs.get(DEFINITION, {}),
        objectives=names,
        counts=counts(study),
        candidates=found,
        front=best,
        reference=reference,
        hypervolume=moments[-1].hypervolume if moments else None,
        where=where,
    )
    return standing, figures
