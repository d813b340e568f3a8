"""The file in a results folder that holds its study; loads nothing, so that completion is quick."""

from pathlib import Path

JOURNAL, SQLITE = "journal", "sqlite"
FILES = {JOURNAL: "study.journal", SQLITE: "study.db"}
"""Its name by the kind of storage. Studies of before are in SQLite, and stay there."""


def study_file(folder: Path) -> Path | None:
    """The file that holds the study of a results folder; None: there is none."""
    found = (folder / name for name in FILES.values())
    return next((path for path in found if path.is_file()), None)


def study_files(results: Path) -> list[Path]:
    """The files of all studies in a folder of results, by the names of their folders."""
    found = map(study_file, sorted(results.glob("*")))
    return [path for path in found if path is not None]
