"""The database lies in the study's folder, whatever characters its path has."""

from pathlib import Path

import pytest
from optuna.study import StudyDirection

from clapp.study.storage.storage import default_url, open_storage

ODD = ["why?", "a%41b", "set #2", "a&b=c", "net[v2]", "ü ñ", "x;y", "a:b@c", "'quoted\"", "e\nd"]


@pytest.mark.parametrize("name", ODD)
def test_names_with_characters_that_mean_something_in_a_url(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    storage = open_storage(default_url(folder))
    storage.create_new_study([StudyDirection.MINIMIZE], "edges")
    assert (folder / "study.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    again = open_storage(default_url(folder), create=False)
    assert [study.study_name for study in again.get_all_studies()] == ["edges"]
