"""Find an existing study by its name."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from loguru import logger

from clapp.errors import ConfigError, UserError
from clapp.filters.custom import load_plugin, look_in
from clapp.study.plan.definition import DEFINITION
from clapp.study.plan.files import find_study, how_to_start
from clapp.study.storage.redaction import redact
from clapp.study.storage.storage import default_url, file_of, open_storage, storage_errors

if TYPE_CHECKING:
    from optuna import Study

RESULTS = Path("results")
"""The default results folder of all commands."""


def where(results: Path, storage: str | None) -> str:
    """The options by which other commands find a study, as text to append; without a password.

    Args:
        results: the folder that holds a folder for each study.
        storage: its URL; None: the file in that folder.
    """
    found = "" if results == RESULTS else f" --results {shlex.quote(str(results))}"
    return found if storage is None else f"{found} --storage {shlex.quote(redact(storage))}"


def load_existing(study: str, results: Path, storage: str | None = None) -> "Study":
    """The Optuna study behind `study`, by name or path of its file.

    Args:
        results: the folder that holds a folder for each study.
        storage: its URL; None: the file in that folder.

    Raises:
        UserError: there is no such study there, or the storage cannot be used.
    """
    name = Path(study).stem if study.endswith((".yaml", ".yml")) else study
    url = storage or default_url(results / name)
    start = how_to_start(study)
    file = file_of(url)
    if file is not None and not file.is_file():
        raise UserError(f"no study named {name!r} in {results}; {start}")
    with storage_errors(url):
        opened = open_storage(url, create=False)
        try:
            found = optuna.load_study(study_name=name, storage=opened)
        except KeyError as error:
            raise UserError(f"no study named {name!r} in {redact(url)}; {start}") from error
    _load_plugins(study, found.user_attrs.get(DEFINITION, {}).get("plugins", []))
    return found


def _load_plugins(study: str, plugins: Sequence[str]) -> None:
    """Import a study's plugins, whose entries its trials may use; missing ones do not matter
    here."""
    if not plugins:
        return
    with suppress(UserError):
        look_in(find_study(study).parent)
    for plugin in plugins:
        try:
            load_plugin(plugin)
        except ConfigError as error:
            logger.warning(f"study {study}: {error}")
