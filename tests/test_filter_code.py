"""Filters of a user's own: where they are found, their hash, and the call before a study starts."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from desk import Desk

from clapp.errors import ConfigError, UserError
from clapp.filters.custom import code_hash, functions_in, load_function, look_in, try_filter
from clapp.filters.library import apply_filter
from clapp.study.storage.place import study_file

PICTURE = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
CHANNEL = "import numpy as np\ndef f(image):\n    return image[..., {}].copy()\n"


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAPP_FILTERS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)


def test_folders_come_before_the_working_directory(tmp_path: Path) -> None:
    for name, channel in (("first", 0), ("second", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(CHANNEL.format(channel))
    (tmp_path / "mine.py").write_text(CHANNEL.format(2))
    np.testing.assert_array_equal(apply_filter("mine:f", PICTURE), PICTURE[..., 2])
    look_in(tmp_path / "second")
    np.testing.assert_array_equal(apply_filter("mine:f", PICTURE), PICTURE[..., 1])
    look_in(tmp_path / "first")
    look_in(tmp_path / "first")
    np.testing.assert_array_equal(apply_filter("mine:f", PICTURE), PICTURE[..., 0])
    assert os.environ["CLAPP_FILTERS"].count(os.pathsep) == 1


def test_a_module_called_as_one_of_the_standard_library(tmp_path: Path) -> None:
    import random

    (tmp_path / "random.py").write_text(CHANNEL.format(1))
    np.testing.assert_array_equal(apply_filter("random:f", PICTURE), PICTURE[..., 1])
    assert sys.modules["random"] is random


def test_modules_may_import_their_neighbours_and_lie_in_packages(tmp_path: Path) -> None:
    (tmp_path / "a_neighbour.py").write_text(CHANNEL.format(1))
    (tmp_path / "importing.py").write_text("from a_neighbour import f as g\n")
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").write_text("")
    (tmp_path / "a_package" / "inner.py").write_text("from a_neighbour import f\n")
    for spec in ("importing:g", "a_package.inner:f"):
        np.testing.assert_array_equal(apply_filter(spec, PICTURE), PICTURE[..., 1])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("def f(:", "cannot be imported: SyntaxError"),
        ("import no_such_module_at_all", "cannot be imported: ModuleNotFoundError"),
        ("f = 3", "is not a function"),
        ("g = 3", "has no attribute 'f'"),
    ],
)
def test_modules_that_do_not_load(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(ConfigError) as caught:
        load_function("bad:f")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", [":f", "a:", ".a:f", "a/b:f", "..:..", "a b:f", "\0:f"])
def test_names_that_no_module_has(spec: str) -> None:
    with pytest.raises(ConfigError, match="filter "):
        load_function(spec)


def test_a_hash_sees_the_module_and_where_the_function_is_written(tmp_path: Path) -> None:
    (tmp_path / "shared_code.py").write_text(CHANNEL.format(1))
    (tmp_path / "one_file.py").write_text(CHANNEL.format(1))
    (tmp_path / "same_file.py").write_text(CHANNEL.format(1))
    (tmp_path / "other_file.py").write_text(CHANNEL.format(2))
    (tmp_path / "thin_file.py").write_text("from shared_code import f\n")
    (tmp_path / "wrapped.py").write_text(
        "import functools\nfrom shared_code import f as g\n"
        "@functools.wraps(g)\ndef f(image): return g(image)\n"
    )
    hashes = [code_hash(f"{name}:f") for name in ("one_file", "same_file")]
    assert hashes[0] == hashes[1]
    others = {code_hash(f"{name}:f") for name in ("other_file", "thin_file", "wrapped")}
    assert len(others | set(hashes)) == 4
    assert code_hash("cv2:Canny")


def test_functions_in_a_specification() -> None:
    chain = ["sobel_3", "a:f", {"name": "b:g", "low": 3}, {"kernel": [[1]]}]
    assert list(functions_in(chain)) == ["a:f", "b:g"]


def moody(image: np.ndarray) -> np.ndarray:
    return np.random.default_rng().integers(0, 256, image.shape[:2], np.uint8)


def greedy(image: np.ndarray) -> np.ndarray:
    image[0] = 0
    return image[..., 0].copy()


def test_a_filter_is_tried_on_the_sizes_it_will_see() -> None:
    seen = []

    def watched(image: np.ndarray) -> np.ndarray:
        seen.append(image.shape)
        return image[..., 0].copy()

    try_filter(watched, "watched", 16, 24)
    assert set(seen) == {(16, 16, 3), (24, 24, 3)}
    with pytest.raises(UserError, match="'moody' returns two results for one picture"):
        try_filter(moody, "moody", 16)
    with pytest.raises(UserError, match="'greedy' changes the picture it is given"):
        try_filter(greedy, "greedy", 16)


STUDY = """
search_space: {model.capacity: {type: int, low: 1, high: 3}}
config:
  train_data: {resize_base: 32, crop_size: 16, min_buffer: 2, target_filter: "edges:f"}
  valid_data: {resize_base: 32, crop_size: 24, num_images: 2}
  model: {num_layers: 1}
  train: {batch_size: 2, max_iterations: 10, validation_interval: 5}
baselines: {}
budget: {trials: 1}
"""


def test_a_study_notices_other_code_and_wrong_results(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STUDY)
    (tmp_path / "edges.py").write_text("def f(image): return image[..., 0] / 1.0\n")
    code, output = desk.run("--workers", "1")
    assert code == 2
    assert "filter 'edges:f' returned values from 0 to 255; floats in [0, 1], or uint8" in output
    assert study_file(desk.study) is None

    (tmp_path / "edges.py").write_text(CHANNEL.format(0))
    code, output = desk.run("--workers", "1")
    assert code == 0, output
    (tmp_path / "edges.py").write_text(CHANNEL.format(1))
    again = ("--workers", "1", "--trials", "2")
    code, output = desk.run(*again)
    assert code == 2
    assert output.splitlines()[-1] == (
        "error: study mine: filter edges:f is other code than the study was started with, so "
        "losses of old and new trials would not be comparable; undo the change, go on with "
        "--accept-filter-change, or start anew with --fresh (the old one is kept)"
    )
    code, output = desk.run(*again, "--accept-filter-change")
    assert code == 0, output
    assert len(desk.trials()) == 2
    code, output = desk.run(*again)  # the change is known by now
    assert code == 0, output
