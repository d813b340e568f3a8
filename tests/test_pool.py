"""The pool with real processes: sharing, warm starts, kills, failures, bounds."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clapp.config import DataConfig, FilterSpec, ValidConfig, load_config
from clapp.errors import FeederError, UserError
from clapp.filters.library import apply_filter
from clapp.images import open_source
from clapp.pool import eviction as cache
from clapp.pool import pool
from clapp.pool.pool import Pool, validation_set
from clapp.pool.store import Slots, fit

CONSUMER = """
import json, sys, time
from clapp.config import DataConfig
from clapp.pool.pool import Pool
job = json.loads(sys.argv[1])
with Pool.open(DataConfig.model_validate(job["data"]), 1) as pool:
    print(pool.pictures(job["wanted"]), flush=True)
    time.sleep(job["stay"])
"""


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLAPP_CACHE", str(tmp_path / "cache"))


def data(**changes) -> DataConfig:
    small = {"name": "synthetic", "min_buffer": 4, "max_buffer": 12, "resize_base": 32}
    defaults = load_config().train_data
    return defaults.model_copy(update={**small, "crop_size": 16, "target_filter": None, **changes})


def consumer(chosen: DataConfig, wanted: int, stay: float) -> subprocess.Popen[str]:
    job = json.dumps({"data": chosen.model_dump(), "wanted": wanted, "stay": stay})
    return subprocess.Popen(
        [sys.executable, "-c", CONSUMER, job], stdout=subprocess.PIPE, text=True
    )


def feeders(folder: Path) -> list[int]:
    """The processes that are feeders of a pool."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"clapp.pool.feeder" in words and str(folder).encode() in words:
            found.append(int(entry.parent.name))
    return found


def until(condition, seconds: float = 10.0):
    """The first true value of `condition`, within a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not true within {seconds} s")


def is_free(lock: Path) -> bool:
    descriptor = cache.try_lock(lock)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def pictures_folder(path: Path, good: int, bad: int = 0) -> str:
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(good):
        image = rng.integers(0, 256, (40 + i, 60, 3), dtype=np.uint8)
        Image.fromarray(image).save(path / f"{i}.png")
    for i in range(bad):
        (path / f"bad{i}.png").write_bytes(b"broken")
    return f"folder:{path}"


def test_pictures_are_the_sources_in_order_at_the_stored_size():
    chosen = data()
    with Pool.open(chosen, stages=2) as opened:
        assert opened.side == 64
        assert opened.pictures(5) == 5
        for number, picture in zip(range(5), open_source(chosen).epoch(0), strict=False):
            expected = fit(picture, 64, np.random.default_rng([chosen.seed, number]))
            np.testing.assert_array_equal(opened[number], expected)


def test_a_source_that_ends_gives_all_it_has(tmp_path):
    chosen = data(name=pictures_folder(tmp_path / "p", good=3, bad=2), split="all")
    with Pool.open(chosen, 1) as opened:
        assert opened.pictures(10) == 3
        assert opened.pictures(2) == 2
        state = until(lambda: opened.state.get("complete") and opened.state)
    assert state["filled"] == state["source_size"] == 3
    assert len(state["skipped"]) == 2
    assert state["error"] is None


def test_bad_pictures_are_named_to_the_user_once(tmp_path):
    from loguru import logger

    messages: list[str] = []
    sink = logger.add(messages.append, level="WARNING")
    chosen = data(name=pictures_folder(tmp_path / "p", good=3, bad=3), split="all")
    for _ in range(2):
        with Pool.open(chosen, 1) as opened:
            opened.pictures(3)
            until(lambda opened=opened: opened.state.get("complete"))
    logger.remove(sink)
    assert len(messages) == 3


def test_the_pool_is_bounded_and_then_complete():
    with Pool.open(data(), 1) as opened:
        assert opened.pictures(1000) == 12
        until(lambda: is_free(opened.folder / "feeder.lock"))
        assert opened.state["complete"]
        used = sum(file.stat().st_blocks * 512 for file in opened.folder.iterdir())
        assert used < 12 * 32 * 64 * 3 + 12 * 4096


def test_a_warm_pool_decodes_nothing():
    with Pool.open(data(), 1) as first:
        first.pictures(12)
        until(lambda: is_free(first.folder / "feeder.lock"))
        before = (first.folder / "pictures.u8").stat().st_mtime_ns
    with Pool.open(data(), 1) as second:
        assert second.pictures(12) == 12
        assert is_free(second.folder / "feeder.lock")
        assert not feeders(second.folder)
        assert (second.folder / "pictures.u8").stat().st_mtime_ns == before


def test_extreme_pictures_fit(tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    for shape in ((1, 1, 3), (8000, 50, 3), (50, 8000, 3)):
        Image.fromarray(np.full(shape, 9, np.uint8)).save(root / f"{shape[0]}.png")
    with Pool.open(data(name=f"folder:{root}", split="all"), 1) as opened:
        assert opened.pictures(3) == 3
        assert sorted(opened[i].shape for i in range(3)) == [(32, 32, 3), (32, 64, 3), (64, 32, 3)]


def test_a_changed_folder_is_another_pool(tmp_path):
    chosen = data(name=pictures_folder(tmp_path / "p", good=2), split="all")
    with Pool.open(chosen, 1) as opened:
        assert opened.pictures(9) == 2
    Image.new("RGB", (50, 50)).save(tmp_path / "p" / "new.png")
    with Pool.open(chosen, 1) as opened:
        assert opened.pictures(9) == 3


def test_two_consumers_share_one_feeder():
    chosen = data(max_buffer=400)
    both = [consumer(chosen, 30, 2) for _ in range(2)]
    assert [process.stdout.readline() for process in both] == ["30\n", "30\n"]
    (folder,) = (cache.cache_dir() / "pool").iterdir()
    assert len(feeders(folder)) == 1
    for process in both:
        process.kill()
        process.communicate()


def test_a_killed_consumer_leaves_no_feeder_and_no_lock():
    process = consumer(data(max_buffer=5000), 4, 60)
    assert process.stdout.readline() == "4\n"
    (folder,) = (cache.cache_dir() / "pool").iterdir()
    assert len(feeders(folder)) == 1
    process.kill()
    process.communicate()
    until(lambda: is_free(folder / "feeder.lock"), 8)
    until(lambda: is_free(folder / "users.lock"))
    until(lambda: not feeders(folder))


def test_a_killed_feeder_is_replaced_and_the_pictures_are_the_same():
    chosen = data(max_buffer=30)
    with Pool.open(chosen, 1) as opened:
        opened.pictures(5)
        (feeder,) = feeders(opened.folder)
        os.kill(feeder, signal.SIGKILL)
        assert opened.pictures(30) == 30
        source = open_source(chosen).epoch(0)
        for number, picture in zip(range(30), source, strict=False):
            expected = fit(picture, 32, np.random.default_rng([chosen.seed, number]))
            np.testing.assert_array_equal(opened[number], expected)


def test_a_feeder_that_cannot_start_is_reported_within_seconds(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    start = time.monotonic()
    with Pool.open(data(), 1) as opened, pytest.raises(FeederError, match="died twice"):
        opened.pictures(4)
    assert time.monotonic() - start < 60  # instead of waiting for pictures


def test_a_crash_of_the_source_is_reported_with_its_reason(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'clapp.pool.feeder' in sys.orig_argv:\n"
        "    import clapp.images.synthetic as module\n"
        "    def broken(rng): raise ZeroDivisionError('of all things')\n"
        "    module.dead_leaves = broken\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start = time.monotonic()
    with (
        Pool.open(data(), 1) as opened,
        pytest.raises(FeederError, match="ZeroDivisionError: of all things"),
    ):
        opened.pictures(4)
    assert time.monotonic() - start < 60  # instead of waiting for pictures


def test_the_users_mistakes_come_through_as_such(tmp_path):
    chosen = data(name=pictures_folder(tmp_path / "p", good=0, bad=2), split="all")
    start = time.monotonic()
    with Pool.open(chosen, 1) as opened, pytest.raises(UserError, match="none of its 2 pictures"):
        opened.pictures(1)
    assert time.monotonic() - start < 60  # instead of waiting for pictures
    with pytest.raises(UserError, match="there is no such folder"):
        Pool.open(data(name="folder:/no/such/place", split="all"), 1)


def test_an_earlier_failure_does_not_stay(tmp_path):
    chosen = data(name=pictures_folder(tmp_path / "p", good=2), split="all")
    with Pool.open(chosen, 1) as opened:
        opened.pictures(2)
        folder = opened.folder
        until(lambda: is_free(folder / "feeder.lock"))
    Slots(folder, chosen.max_buffer, 32)._index[:] = 0
    (folder / "state.json").write_text('{"error": {"user": true, "message": "earlier"}}')
    with Pool.open(chosen, 1) as opened:
        assert opened.pictures(2) == 2


def test_a_cache_that_cannot_be_written_is_the_users_to_know(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLAPP_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set CLAPP_CACHE to another folder"):
        Pool.open(data(), 1)


def test_a_full_disk_is_reported(monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'clapp.pool.feeder' in sys.orig_argv:\n"
        "    def full(*_): raise OSError(28, 'No space left on device')\n"
        "    os.pwrite = full\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Pool.open(data(), 1) as opened, pytest.raises(UserError, match="the disk is full"):
        opened.pictures(4)


def test_pictures_are_replaced_where_a_delay_is_given(tmp_path):
    name = pictures_folder(tmp_path / "p", good=9)
    chosen = data(name=name, split="all", max_buffer=4, buffer_delay=0.01)
    with Pool.open(chosen, 1) as opened:
        assert opened.pictures(9) == 4
        heights = {opened.cut(0, 0, 0, 16).tobytes() for _ in range(1)}
        until(lambda: heights.add(opened.cut(0, 0, 0, 16).tobytes()) or len(heights) > 3)


def test_unused_pools_are_removed_the_oldest_first(monkeypatch):
    monkeypatch.setattr(pool, "LIMIT", 2.5 * 12 * 32 * 64 * 3)
    folders = []
    for seed in range(3):
        with Pool.open(data(seed=seed), 1) as opened:
            opened.pictures(12)
            folders.append(opened.folder)
            os.utime(opened.folder / "users.lock", (seed, seed))
            until(lambda opened=opened: is_free(opened.folder / "feeder.lock"))
    assert not folders[0].exists()
    assert folders[1].exists()
    assert folders[2].exists()


def test_a_pool_in_use_is_never_removed(monkeypatch):
    monkeypatch.setattr(pool, "LIMIT", 1)
    with Pool.open(data(seed=1), 1) as kept, Pool.open(data(seed=2), 1) as other:
        assert kept.pictures(12) == other.pictures(12) == 12
        assert kept.folder.exists()


def test_the_token_is_not_left_on_the_disk(tmp_path):
    chosen = data(token="secret-token")
    with Pool.open(chosen, 1) as opened:
        opened.pictures(2)
        for file in opened.folder.iterdir():
            assert b"secret-token" not in file.read_bytes()
        (feeder,) = feeders(opened.folder) or [None]
        if feeder:
            assert b"secret-token" not in Path(f"/proc/{feeder}/cmdline").read_bytes()


# The validation set


def validation(**changes) -> ValidConfig:
    return load_config().valid_data.model_copy(update=changes)


@pytest.mark.parametrize("spec", ["sobel_3", {"kernel": [[1, 0, -1]], "normalize": "max"}])
def test_the_validation_set_is_fixed_and_filtered_after_the_crop(spec: FilterSpec):
    images, targets = validation_set(validation(), spec)
    assert images.shape == (18, 224, 224, 3)
    assert targets.shape == (18, 224, 224)
    assert images.dtype == targets.dtype == np.uint8
    for image, target in zip(images, targets, strict=True):
        np.testing.assert_array_equal(target, apply_filter(spec, image))
    again = validation_set(validation(), spec)
    assert again[0] is images
    assert again[1] is targets


def test_the_validation_set_is_kept_on_the_disk():
    chosen = validation(name="synthetic", num_images=3, resize_base=64, crop_size=48)
    images, _ = validation_set(chosen, "sobel_3")
    (file,) = (cache.cache_dir() / "validation").iterdir()
    np.testing.assert_array_equal(np.load(file), images)
    assert images.shape == (3, 48, 48, 3)


def test_a_shared_lock_waits_for_no_one(tmp_path):
    first, second = cache.use(tmp_path / "pool"), cache.use(tmp_path / "pool")
    assert cache.try_lock(tmp_path / "pool" / cache.USERS) is None
    for descriptor in (first, second):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
    assert is_free(tmp_path / "pool" / cache.USERS)
