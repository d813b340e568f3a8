"""The pool under SIGKILL and in a crowd, with real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clapp.config import DataConfig, load_config
from clapp.pool import eviction as cache
from clapp.pool import pool
from clapp.pool.pool import Pool
from clapp.pool.store import FORMAT, Slots, is_outdated

CROWD = """
import json, sys
from clapp.pool import pool
from clapp.config import DataConfig
pool.LIMIT = 1  # every pool but those in use is too much
job = json.loads(sys.argv[1])
for seed in job["seeds"]:
    data = DataConfig.model_validate(job["data"] | {"seed": seed})
    with pool.Pool.open(data, 1) as opened:
        assert opened.pictures(4) == 4
        assert all(opened[i].any() for i in range(4))
        assert (opened.folder / "pictures.u8").is_file()
"""
# The feeder kills itself in the middle of the first picture that it replaces.
TORN = """
import os, signal, sys
if "clapp.pool.feeder" in sys.orig_argv:
    write, seen = os.pwrite, set()
    def pwrite(descriptor, content, place):
        if place in seen and not os.path.exists({marker!r}):
            open({marker!r}, "w").close()
            write(descriptor, bytes(content)[:100], place)
            os.kill(os.getpid(), signal.SIGKILL)
        seen.add(place)
        return write(descriptor, content, place)
    os.pwrite = pwrite
"""


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLAPP_CACHE", str(tmp_path / "cache"))


def data(**changes) -> DataConfig:
    small = {"name": "synthetic", "min_buffer": 2, "max_buffer": 4, "resize_base": 32}
    defaults = load_config().train_data
    return defaults.model_copy(update={**small, "crop_size": 16, "target_filter": None, **changes})


def feeder_of(folder: Path) -> int | None:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"clapp.pool.feeder" in words and str(folder).encode() in words:
            return int(entry.parent.name)
    return None


def is_free(folder: Path) -> bool:
    lock = cache.try_lock(folder / cache.FEEDER)
    if lock is not None:
        os.close(lock)
    return lock is not None


def until(condition, seconds: float = 15.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not true within {seconds} s")


def test_processes_that_open_pools_leave_one_anothers_alone():
    crowd = []
    for number in range(4):
        job = {"data": data().model_dump(), "seeds": [number, 9, number + 1, 8]}
        command = [sys.executable, "-c", CROWD, json.dumps(job)]
        crowd.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    for process in crowd:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors


def test_folders_come_and_go_under_their_users(tmp_path):
    """Without a feeder, and so a thousand times faster: no user loses its folder."""
    root = tmp_path / "pools"
    code = """
import os, random, sys
from pathlib import Path
from clapp.pool.eviction import evict, use
root, rng = Path(sys.argv[1]), random.Random(sys.argv[2])
for turn in range(400):
    folder = root / str(rng.randrange(3))
    users = use(folder)
    file = folder / f"{os.getpid()}-{turn}"
    file.write_bytes(b"x")
    evict(root, folder, 0, lambda other: False)
    assert file.read_bytes() == b"x"
    file.unlink()
    os.close(users)
"""
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root), str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    for process in crowd:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors


def test_a_feeder_killed_while_it_replaces_a_picture(tmp_path, monkeypatch):
    marker = tmp_path / "killed"
    (tmp_path / "sitecustomize.py").write_text(TORN.format(marker=str(marker)))
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    with Pool.open(data(buffer_delay=0.05), 1) as opened:
        assert opened.pictures(4) == 4
        until(marker.exists)
        until(lambda: feeder_of(opened.folder) is None)
        assert opened._slots.torn() == [0]
        assert opened.cut(1, 0, 0, 16).shape == (16, 16, 3)
        start = time.monotonic()
        assert opened.cut(0, 0, 0, 16).shape == (16, 16, 3)  # waits for the next feeder's repair
        assert time.monotonic() - start < 15
        assert not opened._slots.torn()


def test_a_full_pool_notices_that_its_feeder_is_dead():
    with Pool.open(data(buffer_delay=0.05), 1) as opened:
        assert opened.pictures(4) == 4
        feeder = until(lambda: feeder_of(opened.folder))
        os.kill(feeder, signal.SIGKILL)
        until(lambda: feeder_of(opened.folder) is None)
        writes = opened._slots.writes
        until(lambda: opened.pictures(4) == 4 and opened._slots.writes > writes)
        assert feeder_of(opened.folder) not in (None, feeder)


def test_pools_of_an_older_format_are_discarded():
    with Pool.open(data(), 1) as opened:
        opened.pictures(4)
        old = opened.folder
        until(lambda: opened.state.get("complete"))
    until(lambda: is_free(old))
    slots = Slots(old, 4, 32)
    assert not is_outdated(old)
    assert slots._index[0].tolist() == [4, 1, FORMAT]
    slots._index[0, 2] = FORMAT - 1
    slots.close()
    assert is_outdated(old)
    with Pool.open(data(seed=1), 1) as other:
        assert not old.exists()
        assert other.folder.exists()
    assert not list(old.parent.glob(".*"))


def test_an_older_format_under_the_same_name_is_made_anew():
    with Pool.open(data(), 1) as opened:
        opened.pictures(4)
        until(lambda: opened.state.get("complete"))
    until(lambda: is_free(opened.folder))
    slots = Slots(opened.folder, 4, 32)
    slots._index[0, 2] = FORMAT - 1
    before = np.array(slots[0])
    os.pwrite(slots._descriptor, bytes(1000), 0)
    slots.close()
    with Pool.open(data(), 1) as again:
        assert again.pictures(4) == 4
        np.testing.assert_array_equal(again[0], before)


def test_what_was_left_of_a_removal_goes_with_the_next():
    root = cache.cache_dir() / "pool"
    (root / ".removed-x").mkdir(parents=True)
    with pool.Pool.open(data(), 1):
        assert not (root / ".removed-x").exists()
