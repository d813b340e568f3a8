"""Errors of a single trial, and errors that end the whole study."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger
from optuna.exceptions import StorageInternalError, TrialPruned, UpdateFinishedTrialError
from safetensors import SafetensorError
from sqlalchemy.exc import SQLAlchemyError

from clapp.errors import FeederError, UserError, one_line
from clapp.front.record import INTERRUPTED
from clapp.study.storage.storage import GO_ON

if TYPE_CHECKING:
    from clapp.study.running.running_trial import RunningTrial

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_MEMORY = re.compile(
    r"(out of|not enough|insufficient|can't allocate|cannot allocate) memory", re.I
)


class TrialError(Exception):
    """A trial that failed; the study goes on."""


class TooLargeError(TrialError):
    """A trial ran out of memory; the next one may fit."""


@contextmanager
def recorded(trial: "RunningTrial") -> Iterator[None]:
    """Record any error of the block as `failed` in the record of `trial`.

    Raises:
        TrialError: the trial failed, the study can go on.
        UserError, FeederError: no other trial can be trained either; this one will be repeated.
    """
    try:
        yield
    except (TrialPruned, TrialError, UpdateFinishedTrialError):
        raise
    except (StorageInternalError, SQLAlchemyError):
        raise  # the error cannot be stored anywhere
    except (UserError, FeederError) as error:
        trial.note(failed=f"{INTERRUPTED}: {_short(error)}")
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            trial.note(failed=f"{INTERRUPTED}: {_short(error)}")
            raise UserError(f"{_short(error)}; {GO_ON} once there is room") from error
        logger.opt(exception=error).error(f"trial {trial.number} failed")
        if is_out_of_memory(error):
            raise failed(trial, f"out of memory: {_short(error)}", TooLargeError) from error
        raise failed(trial, f"{type(error).__name__}: {_short(error)}") from error


def failed(trial: "RunningTrial", reason: str, kind: type[TrialError] = TrialError) -> TrialError:
    """Record `reason` as why a trial failed; returns the error to raise."""
    trial.note(failed=reason)
    return kind(reason)


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` is a failed allocation, by the messages of any library."""
    if isinstance(error, MemoryError):
        return True
    return bool(_NO_MEMORY.search(str(error)))


@contextmanager
def writing_results(folder: Path) -> Iterator[None]:
    """Raise a UserError with advice where writing below `folder` fails.

    Raises:
        UserError: the disk is full or broken, or writing is not allowed.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
        raise UserError(
            f"{folder}: results cannot be written: {reason}; {GO_ON} once they can"
        ) from error


def _short(error: Exception) -> str:
    return one_line(error)[:300]
