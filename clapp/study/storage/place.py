"""The file that holds a study; loads no library, so that completion is quick."""

from pathlib import Path

from clapp.errors import UserError

JOURNAL, SQLITE = "journal", "sqlite"
FILES = {JOURNAL: "study.journal", SQLITE: "study.db"}
"""Its name in a results folder, by the kind of storage. Older studies stay in SQLite."""


def is_local(url: str) -> bool:
    """Whether the storage is a local file; its workers then share this machine's locks."""
    return url.partition(":")[0].partition("+")[0] in FILES


def study_file(folder: Path) -> Path | None:
    """The file that holds the study of a results folder; None: there is none."""
    found = (folder / name for name in FILES.values())
    return next((path for path in found if path.is_file()), None)


def study_files(results: Path) -> list[Path]:
    """The files of all studies in a folder of results, by the names of their folders."""
    found = map(study_file, sorted(results.glob("*")))
    return [path for path in found if path is not None]


class WatchedFile:
    """Checks that the file of a running study is not deleted or replaced.

    Its processes would not notice, since a deleted file exists until they close it. Database
    servers need no such check.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            state = self._path.stat() if self._path else None
        except FileNotFoundError:
            return None
        return (state.st_dev, state.st_ino) if state else None

    def check(self) -> None:
        """Check that the file is still the one that was opened.

        Raises:
            UserError: it was deleted or replaced.
        """
        now = self._look()
        if now != self._identity:
            what = "deleted" if now is None else "replaced"
            raise UserError(
                f"{self._path}: {what} while the study was running; put the right file back, or "
                "start anew with --fresh, which keeps the weights trained so far under another name"
            )
