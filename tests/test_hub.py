"""Rows of datasets that are no pictures: the real calls of `datasets` on local Parquet files."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clapp.config import DataConfig, load_config
from clapp.errors import UserError
from clapp.images import open_source

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encoded(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (level,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


GOOD = [encoded(level) for level in range(12)]


@pytest.fixture(autouse=True)
def _own_datasets_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    # After a stream of Parquet files the library waits 5 s for Arrow's threads.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1, raising=False)


@pytest.fixture
def dataset(tmp_path):
    """A function that makes a dataset of one column `image`, a file for each of its arrays."""

    def make(*columns: pa.Array, **changes) -> DataConfig:
        root = tmp_path / "set" / "data"
        root.mkdir(parents=True)
        for i, column in enumerate(columns):
            name = f"train-{i:05}-of-{len(columns):05}.parquet"
            pq.write_table(pa.table({"image": column}), root / name)
        update = {"name": f"huggingface:{root.parent}", "split": "train", **changes}
        return load_config().train_data.model_copy(update=update)

    return make


def cells(values, path: str | None = None) -> pa.Array:
    return pa.array([v and {"bytes": v, "path": path} for v in values], CELL)


def broken(*numbers: int) -> list[bytes]:
    return [good[:60] if i in numbers else good for i, good in enumerate(GOOD)]


both = pytest.mark.parametrize("streaming", [True, False])


@both
def test_a_corrupt_row_is_named_by_its_number(dataset, streaming):
    source = open_source(dataset(cells(broken(7)), streaming=streaming))
    assert len(list(source.epoch(0))) == len(list(source.epoch(1))) == 11
    (name,) = source.skipped.names
    assert name.endswith(": row 7 of train")


@both
def test_rows_with_one_path_are_several(dataset, streaming):
    source = open_source(dataset(cells(broken(3, 7), "image.png"), streaming=streaming))
    assert len(list(source.epoch(0))) == 10
    assert source.skipped.count == 2


def test_of_several_files_a_streamed_row_is_named_by_its_content(dataset):
    chosen = dataset(cells(broken(3)[:6]), cells(broken(7)[6:]), streaming=True)
    source = open_source(chosen)
    assert len(list(source.epoch(0))) == len(list(source.epoch(1))) == 10
    assert source.skipped.count == 2
    assert all("SHA-256" in name and "row" not in name for name in source.skipped.names)


@both
def test_an_empty_cell_is_called_that(dataset, streaming):
    values = [None if i == 7 else good for i, good in enumerate(GOOD)]
    source = open_source(dataset(cells(values), streaming=streaming))
    assert len(list(source.epoch(0))) == 11
    assert list(source.skipped.names.values()) == ["the cell is empty"]


def test_slices_and_sums_of_splits(dataset):
    chosen = dataset(cells(GOOD), streaming=False)
    for split, expected in (("train[:50%]", range(6)), ("train[:2]+train[10:]", (0, 1, 10, 11))):
        source = open_source(chosen.model_copy(update={"split": split}))
        assert sorted(int(p[0, 0, 0]) for p in source.epoch(0)) == list(expected)
        streamed = open_source(chosen.model_copy(update={"split": split, "streaming": True}))
        with pytest.raises(UserError, match=r"cannot be streamed \(streaming\): set streaming"):
            next(streamed.epoch(0))


@both
@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([], CELL), "no rows"),
        (pa.array([[{"bytes": good, "path": None}] for good in GOOD], pa.list_(CELL)), "a list"),
        (pa.array([f"gone/{i}.png" for i in range(12)]), "12 were tried.*there is no such file"),
        (pa.array(range(12)), "image_key"),
    ],
)
def test_columns_without_pictures(dataset, column, message, streaming):
    with pytest.raises(UserError, match=message) as caught:
        next(open_source(dataset(column, streaming=streaming)).epoch(0))
    assert "\n" not in str(caught.value)


@both
def test_a_cell_may_hold_the_path_of_a_file(dataset, tmp_path, streaming):
    files = []
    for i, good in enumerate(GOOD):
        files.append(str(tmp_path / f"{i}.png"))
        (tmp_path / f"{i}.png").write_bytes(good)
    source = open_source(dataset(pa.array(files), streaming=streaming))
    assert np.sum([p[0, 0, 0] for p in source.epoch(0)]) == sum(range(12))
