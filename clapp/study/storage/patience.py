"""Retry reads and writes that the storage refuses temporarily."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from loguru import logger
from optuna.trial import FrozenTrial

from clapp.errors import one_line
from clapp.study.storage.storage import refusals

if TYPE_CHECKING:
    from optuna import Study

T = TypeVar("T")

WAITS = (0.1, 0.5, 2.0)
"""Seconds before each retry of a refused read or write."""


def all_trials(study: "Study") -> list[FrozenTrial]:
    """All trials of a study; callers must not change them."""
    return patiently(lambda: study.get_trials(deepcopy=False))


def patiently(do: Callable[[], T]) -> T:
    """Do a read or write and retry it if it is refused, so that no data are lost.

    Raises:
        StorageInternalError, SQLAlchemyError: it was refused each time.
    """
    for wait in WAITS:
        try:
            return do()
        except refusals() as error:
            logger.warning(f"refused by the storage, tried again in {wait:g} s: {one_line(error)}")
            time.sleep(wait)
    return do()
