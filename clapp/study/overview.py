"""A study's own pages in the dashboard: a note that says how it stands, and its graphs."""

import time
from typing import TYPE_CHECKING, Any

from loguru import logger

from clapp.errors import one_line
from clapp.front import candidates, counts, front, objectives, reference_of
from clapp.hypervolume import history
from clapp.study import graphs
from clapp.study.batching import set_study_system_attrs
from clapp.study.dashboard_format import graph, read_study_note, study_note
from clapp.study.prepare import DEFINITION
from clapp.study.study_note import Standing, merged

if TYPE_CHECKING:
    from optuna import Study

INTERVAL, SHARE = 30.0, 0.01
"""Graphs are drawn anew at most this often (s), and in at most this share of the time."""


class Overview:
    """The note and the graphs of one study, brought up to date while it runs."""

    def __init__(self, study: "Study") -> None:
        self._study = study
        self._due = 0.0

    def refresh(self) -> None:
        """Bring note and graphs up to date; what fails is logged, since no trial depends on it."""
        self._write(note=True)

    def refresh_graphs(self) -> None:
        """Bring the graphs up to date if that is due; see `refresh`."""
        if time.monotonic() >= self._due:
            self._write(note=False)

    def _write(self, *, note: bool) -> None:
        start = time.monotonic()
        try:
            _write(self._study, note)
        except Exception as error:
            logger.warning(
                f"the study's page in the dashboard is not up to date: {one_line(error)}"
            )
        now = time.monotonic()
        self._due = now + max(INTERVAL, (now - start) / SHARE)


def _write(study: "Study", note: bool) -> None:
    standing, figures = _standing(study)
    old = study._storage.get_study_system_attrs(study._study_id)
    new: dict[str, Any] = {}
    for name, figure in figures.items():
        new |= graph(name, figure, old)
    text = merged(standing, read_study_note(old)) if note else None
    if text is not None:
        new |= study_note(text, old)
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    if changed:
        set_study_system_attrs(study._storage, study._study_id, changed)


def _standing(study: "Study") -> tuple[Standing, dict[str, graphs.Figure]]:
    names = objectives(study)
    found, reference, moments = candidates(study), reference_of(study), history(study)
    best = front(found, names)
    trials = study.get_trials(deepcopy=False)
    curves = {one.trial: trials[one.trial].user_attrs.get("curve") or [] for one in best}
    figures = {}
    if best and len(names) > 1:
        figures["front"] = graphs.front_graph(found, best, reference)
    if moments:
        figures["hypervolume"] = graphs.hypervolume_graph(moments)
    if any(curves.values()):
        figures["curves"] = graphs.curves_graph(best, curves)
    standing = Standing(
        name=study.study_name,
        id=study._study_id,
        definition=study.user_attrs.get(DEFINITION, {}),
        objectives=names,
        counts=counts(study),
        candidates=found,
        front=best,
        reference=reference,
        hypervolume=moments[-1].hypervolume if moments else None,
    )
    return standing, figures
