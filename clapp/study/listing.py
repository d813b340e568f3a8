"""`clapp studies`: all studies of a results folder and of a storage, with their state."""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clapp.errors import UserError, one_line
from clapp.front.hypervolume import log_hypervolume, worst_point
from clapp.front.objectives import amount
from clapp.front.outcomes import Candidate, candidates, counts, front, objectives
from clapp.front.pick.choose import Finished, pick
from clapp.front.record import ended, started
from clapp.front.trials import trained
from clapp.study.plan.definition import DEFINITION, ELAPSED, LOCKS
from clapp.study.storage import liveness
from clapp.study.storage.place import is_local, study_files
from clapp.study.storage.signs import gave_one_lately
from clapp.study.storage.storage import default_url, open_storage, storage_errors
from clapp.system.console import plain_console, plain_table
from clapp.system.progress import tell

if TYPE_CHECKING:
    from optuna import Study

RULE = "knee"


class Overview(NamedTuple):
    """The state of a study.

    Attributes:
        study: its name; for a study set aside by --fresh, the name of its folder.
        state: running (a worker lives), finished (its budget is spent), interrupted, set aside.
        total: trials of its budget.
        best: the model that the rule `knee` picks.
        active: time at which a trial last began or ended, in the reader's time zone.
    """

    study: str
    state: str
    counts: dict[str, int]
    total: int
    hypervolume: float
    best: Candidate | None
    active: datetime | None

    def document(self) -> dict[str, Any]:
        """A study of `clapp studies --json`."""
        best = None
        if self.best is not None:
            best = {name: getattr(self.best, name) for name in ("trial", "loss", "params", "flops")}
        active = self.active and self.active.isoformat(timespec="seconds")
        return self._asdict() | {"best": best, "active": active}


class Overviews(NamedTuple):
    """Studies, and databases that were left out: place -> reason."""

    studies: Sequence[Overview]
    left_out: Sequence[tuple[str, str]]

    def document(self) -> dict[str, Any]:
        """What `clapp studies --json` prints."""
        return {
            "studies": [one.document() for one in self.studies],
            "left_out": [{"place": place, "reason": reason} for place, reason in self.left_out],
        }


def overviews(results: Path, storage: str | None = None) -> Overviews:
    """The studies with a database in a folder of `results`, and those of `storage`.

    Raises:
        UserError: `results` is no folder; `storage` cannot be used.
    """
    if not results.is_dir() and storage is None:
        raise UserError(
            f"--results {results}: there is no such folder; the first search makes it: "
            "`clapp-optimize --study sobel3`"
        )
    found: list[Overview] = []
    left_out: list[tuple[str, str]] = []
    for database in study_files(results):
        tell(f"reading {database}")
        try:
            found.extend(_in_folder(database))
        except _UNREADABLE as error:
            left_out.append((str(database), _why(error)))
    if storage is not None:
        tell("reading the storage")
        for name, one in _in_storage(storage, results):
            if isinstance(one, Overview):
                found.append(one)
            else:
                left_out.append((f"study {name} in the storage", one))
    return Overviews(found, left_out)


# In a study of another program, attributes may be missing or of any type.
_UNREADABLE = (UserError, sqlite3.Error, LookupError, TypeError, ValueError)


def _why(error: Exception) -> str:
    known = isinstance(error, UserError | sqlite3.Error)
    return one_line(error) if known else "CLAPP did not make it"


def _in_folder(database: Path) -> Iterator[Overview]:
    """The overview of the study in the database of its folder."""
    import optuna

    folder = database.parent
    url = default_url(folder)
    with storage_errors(url):
        storage = open_storage(url, create=False)
        for name in optuna.get_all_study_names(storage):
            one = overview(optuna.load_study(study_name=name, storage=storage), folder, local=True)
            yield one if name == folder.name else one._replace(study=folder.name, state="set aside")


def _in_storage(url: str, results: Path) -> Iterator[tuple[str, Overview | str]]:
    """Each study by name, with its overview or the reason why it is left out."""
    import optuna

    with storage_errors(url):
        storage = open_storage(url, create=False)
        for name in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name=name, storage=storage)
            try:
                yield name, overview(study, results / name, local=is_local(url))
            except _UNREADABLE as error:
                yield name, _why(error)


def overview(study: "Study", folder: Path, *, local: bool) -> Overview:
    """The state of `study`.

    Args:
        folder: its results folder.
        local: whether all its workers run on this machine.

    Raises:
        UserError, KeyError: CLAPP did not make it.
    """
    definition = study.user_attrs[DEFINITION]
    trials = study.get_trials(deepcopy=False)
    found = candidates(study)
    best = front(found, objectives(study))
    worst = worst_point(study)
    times = [moment for t in trials for moment in (started(t), ended(t)) if moment]
    budget = definition["budget"]
    spent = trained(trials) >= budget["trials"] or (
        budget["timeout"] is not None and study.user_attrs.get(ELAPSED, 0) >= budget["timeout"]
    )
    return Overview(
        study=study.study_name,
        state=_state(study, folder, local, spent),
        counts=counts(study),
        total=budget["trials"],
        hypervolume=log_hypervolume(
            [[c.values[name] for name in worst] for c in best], list(worst.values())
        ),
        best=pick(RULE, Finished.of(found, objectives(study))) if best else None,
        active=max(times, default=None),
    )


def _state(study: "Study", folder: Path, local: bool, spent: bool) -> str:
    if liveness.any_alive(folder / LOCKS) or not (local or _all_stale(study)):
        return "running"
    return "finished" if spent else "interrupted"


def _all_stale(study: "Study") -> bool:
    """Whether no worker on other machines has given a sign of life lately."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return not any(map(gave_one_lately, running))


def ago(moment: datetime, now: datetime) -> str:
    """The time since `moment` in the largest suitable unit: "3 h ago"."""
    seconds = max(0.0, (now - moment).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"


def print_overviews(found: Overviews) -> None:
    """Print the studies as a table on stdout."""

    console = plain_console()
    if not found.studies:
        console.print("There are no studies here; start one: clapp-optimize --study sobel3")
        return
    table = plain_table()
    table.add_column("study", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("trials")
    table.add_column("volume", justify="right", no_wrap=True)
    table.add_column(f"best pick ({RULE})")
    table.add_column("active", no_wrap=True)
    now = datetime.now().astimezone()
    for one in found.studies:
        table.add_row(
            one.study,
            one.state,
            _trials_in_words(one),
            f"{one.hypervolume:.2f}",
            _best_in_words(one.best) if one.best else "",
            ago(one.active, now) if one.active else "",
        )
    console.print(table)


def _best_in_words(best: Candidate) -> str:
    return f"{amount('params', best.params)}, {amount('loss', best.loss)}"


def _trials_in_words(one: Overview) -> str:
    others = [f"{n} {word}" for word, n in one.counts.items() if n and word != "complete"]
    return "\n".join([f"{one.counts['complete']} of {one.total}", *others])
