"""The SQLite file of a running study: missed when it goes away, and written again.

Its processes would not notice: to them a deleted file is there until they close it.
"""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from clapp.errors import UserError
from clapp.files import atomic_path
from clapp.study.failures import GO_ON
from clapp.study.storage import is_sqlite


class DatabaseFile:
    """The file behind a study's storage; other databases are their servers' business.

    Args:
        url: of the storage.
        storage: the storage itself, opened before.
    """

    def __init__(self, url: str, storage: Any) -> None:
        self._path = Path(str(make_url(url).database)) if is_sqlite(url) else None
        self._engine = getattr(storage, "engine", None)
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            state = self._path.stat() if self._path else None
        except FileNotFoundError:
            return None
        return (state.st_dev, state.st_ino) if state else None

    def check(self) -> None:
        """See that the file is still the one that was opened.

        Raises:
            UserError: it is not.
        """
        now = self._look()
        if now == self._identity:
            return
        if now is None:
            raise UserError(
                f"{self._path}: deleted while the study was running; it is written again: {GO_ON}"
            )
        raise UserError(
            f"{self._path}: replaced while the study was running; put the right file back, or "
            "start anew with --fresh, which keeps these results under another name"
        )

    def put_back(self) -> None:
        """Write the file again where it was deleted; to be called when all workers have ended."""
        if self._identity is None or self._look() is not None:
            return
        assert self._path is not None
        assert self._engine is not None
        with atomic_path(self._path) as copy:
            target = sqlite3.connect(copy)
            connection = self._engine.raw_connection()
            connection.driver_connection.backup(target)
            connection.close()
            target.close()
            self._engine.dispose()
            for name in ("-wal", "-shm"):  # of the deleted file; SQLite would apply them to the new
                Path(f"{self._path}{name}").unlink(missing_ok=True)
