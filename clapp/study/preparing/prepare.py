"""Prepare a study before its workers start: create or open it, check it, set it aside."""

import os
import time
import warnings
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import optuna
from loguru import logger
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from clapp.errors import UserError
from clapp.front.record import NOTED, attributes, record_of
from clapp.study.plan.definition import DEFINITION, LOCKS, RESOLVED, first_change, started_with
from clapp.study.plan.existing import RESULTS
from clapp.study.plan.files import FROM
from clapp.study.plan.plan import Plan
from clapp.study.preparing.growth import finish, growth, rewrite
from clapp.study.preparing.transfer import enqueue, transfers
from clapp.study.storage import liveness
from clapp.study.storage.retries import enqueuing, interrupt
from clapp.study.storage.signs import machines_at_work

if TYPE_CHECKING:
    from optuna import Study

# Bytes that file systems allow, and what --fresh adds.
_NAME_MOST, _STAMPED = 255, ".20261231-235959"
CREATION_SECONDS = 10
"""Seconds in which a driver creates a study."""


def check_sources(plan: Plan) -> None:
    """Check the study's pictures and its filter now, so that errors do not appear in a worker.

    Raises:
        UserError: a folder does not exist, the source does not have the split, or the filter fails
            or does not return a picture.
    """
    from clapp.filters.learned.settings import check_filter
    from clapp.images import open_source

    config = plan.config({}, seed=0, device=None)
    check_filter(config)
    for data in (config.train_data, config.valid_data, config.test_set):
        open_source(data)


def make_folder(folder: Path) -> None:
    """Create a study's results folder and check that it can be written to.

    Raises:
        UserError: it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: results cannot be written: {error.strerror}") from error


def create_study(
    plan: Plan,
    storage: BaseStorage,
    locks: Path,
    accept_filter_change: bool = False,
    results: Path = RESULTS,
) -> "Study":
    """Create the study of `plan` with its baselines enqueued, or open the existing one.

    Args:
        results: where a study that it starts from is looked for by its name.
        accept_filter_change: go on although the code of a filter function has changed.

    Raises:
        UserError: it was started with another definition, or the study that it starts from does
            not serve, see `clapp.study.preparing.transfer`.
    """
    with enqueuing(locks):
        return _create_study(plan, storage, locks, accept_filter_change, results)


def _create_study(
    plan: Plan, storage: BaseStorage, locks: Path, accept_filter_change: bool, results: Path
) -> "Study":
    directions = [StudyDirection.MINIMIZE] * len(plan.file.objectives)
    finish(plan.name, storage)
    moved = [] if _has_begun(plan, storage) else transfers(plan, results)
    try:
        study = optuna.create_study(
            storage=storage, study_name=plan.name, directions=directions, load_if_exists=False
        )
    except DuplicatedStudyError:
        study = optuna.load_study(study_name=plan.name, storage=storage)
        _wait_for_creator(study)
        _check_definition(plan, study, accept_filter_change)
        study = _grown(plan, study, storage, locks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(plan.file.objectives))
    _enqueue_baselines(plan, study)
    enqueue(study, moved)
    study.set_user_attr(RESOLVED, plan.resolved())
    # Written last, as the mark of a complete study.
    study.set_user_attr(DEFINITION, plan.definition())
    return study


def _has_begun(plan: Plan, storage: BaseStorage) -> bool:
    """Whether the study is there with all that it starts from, which may be gone by now."""
    if plan.name not in optuna.get_all_study_names(storage):
        return False
    study = optuna.load_study(study_name=plan.name, storage=storage)
    baselines = study.user_attrs.get(DEFINITION, {}).get("baselines", {})
    return bool(baselines.get(FROM) == plan.file.origin)


def _wait_for_creator(study: "Study") -> None:
    """Wait while another driver that started at the same time creates the study.

    If it takes too long it is dead, and the waiting driver completes the study.
    """
    deadline = time.monotonic() + CREATION_SECONDS
    while DEFINITION not in study.user_attrs and time.monotonic() < deadline:
        if _foreign(study):
            return
        time.sleep(0.1)


def _foreign(study: "Study") -> bool:
    """Whether somebody else made this study: it has trials that nothing of it begins with."""
    records = map(record_of, study.get_trials(deepcopy=False))
    return any(record.baseline is None and record.ancestor is None for record in records)


def _check_definition(plan: Plan, study: "Study", accept_filter_change: bool) -> None:
    attributes = study.user_attrs
    old = attributes.get(DEFINITION)
    if old is None and not _foreign(study):
        return  # its creator was killed
    if old is None:
        raise UserError(f"the storage holds a study named {plan.name!r} that CLAPP did not make")
    new = plan.resolved()
    change = first_change(old, attributes.get(RESOLVED), plan.definition(), new)
    if change is None:
        return
    if not change.is_code:
        raise UserError(
            f"study {plan.name}: {change.where} {change.how}; undo the change, start anew with "
            "--fresh (the old one is kept), or copy the file to a new name"
        )
    if not accept_filter_change:
        raise UserError(
            f"study {plan.name}: filter {change.where} {change.how}, so losses of old and new "
            "trials would not be comparable; undo the change, go on with --accept-filter-change, "
            "or start anew with --fresh (the old one is kept)"
        )
    logger.warning(f"filter {change.where} {change.how}; its older trials keep their losses")


def _grown(plan: Plan, study: "Study", storage: BaseStorage, locks: Path) -> "Study":
    """The study with the plan's search space, which may be larger than the stored one."""
    old = study.user_attrs.get(DEFINITION)
    if old is None:
        return study
    try:
        grown = growth(old["search_space"], plan.definition()["search_space"])
    except ValueError as error:
        raise UserError(
            f"study {plan.name}: {error}; a search space may only grow: undo the change, start "
            "anew with --fresh (the old one is kept), or copy the file to a new name"
        ) from error
    if grown.rewrites:
        before = started_with(old, study.user_attrs.get(RESOLVED))
        study = rewrite(plan, study, storage, locks, before)
    if grown.words:
        logger.info(f"the search space grew: {'; '.join(grown.words)}; the old trials stay")
    return study


def _enqueue_baselines(plan: Plan, study: "Study") -> None:
    there = {record_of(trial).baseline for trial in study.get_trials(deepcopy=False)}
    for name in plan.file.named_baselines:
        if name not in there:
            parameters = plan.baseline_parameters(name)
            study.enqueue_trial(parameters, user_attrs=attributes(baseline=name))


def check_name(name: str, results: Path) -> None:
    """Check now that the study's name leaves room for the longer one that --fresh makes.

    Raises:
        UserError: the name is too long.
    """
    most = _NAME_MOST - len(_STAMPED)
    size = len(os.fsencode(name))
    if size > most:
        raise UserError(
            f"study {name[:40]}...: its name has {size} bytes; allowed: at most {most}, so that "
            f"--fresh can keep {results / '...'} under a longer one"
        )


def set_aside(plan: Plan, folder: Path, storage: BaseStorage | None, *, force: bool) -> None:
    """Keep the study under a name with the time, so that a new one can take its place.

    Args:
        storage: the storage that holds it; None: a file in `folder`.
        force: set it aside even while other machines run it; their trials are failed.

    Raises:
        UserError: the study is being run.
    """
    if liveness.any_alive(folder / LOCKS):
        raise UserError(f"study {plan.name}: it is being run now; stop it before --fresh")
    kept = _free_name(plan.name, folder, storage)
    if storage is not None and plan.name in optuna.get_all_study_names(storage):
        _stop_others(optuna.load_study(study_name=plan.name, storage=storage), force)
        optuna.copy_study(
            from_study_name=plan.name,
            from_storage=storage,
            to_storage=storage,
            to_study_name=kept,
        )
        # The copied trials have other ids, for which the dashboard has no notes yet.
        optuna.load_study(study_name=kept, storage=storage).set_user_attr(NOTED, [])
        optuna.delete_study(study_name=plan.name, storage=storage)
        logger.info(f"the old study is kept as {kept} in the same storage")
    if folder.is_dir():
        folder.rename(folder.with_name(kept))
        logger.info(f"the old results are kept in {folder.with_name(kept)}")


def _free_name(name: str, folder: Path, storage: BaseStorage | None) -> str:
    """`name` with the time appended, as a name that is not taken yet."""
    there = set(optuna.get_all_study_names(storage)) if storage is not None else set()
    while True:
        kept = f"{name}.{datetime.now():%Y%m%d-%H%M%S}"
        if kept not in there and not folder.with_name(kept).exists():
            return kept
        time.sleep(0.1)


def _stop_others(study: "Study", force: bool) -> None:
    """Fail running trials; with `force` even those of live workers.

    Raises:
        UserError: workers are running, and `force` is not set.
    """
    machines = [] if force else machines_at_work(study)
    if machines:
        raise UserError(
            f"study {study.study_name}: it is being run now on {', '.join(machines)}; stop it "
            "there before --fresh, or set it aside all the same with --fresh --force: then the "
            "trials being trained there fail, and their workers end"
        )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        interrupt(study, trial, "the study was set aside")
