"""Batches: reproducible, correctly filtered, in order, in every orientation."""

import subprocess
import sys
from contextlib import closing
from itertools import islice

import cv2
import numpy as np
import pytest

from clapp.config import load_config
from clapp.errors import UserError
from clapp.filters.library import apply_filter, resolve
from clapp.pool.batches import Batches
from clapp.pool.pool import Pool


@pytest.fixture(scope="module")
def pool():
    changes = {"name": "synthetic", "min_buffer": 4, "max_buffer": 24, "resize_base": 48}
    config = load_config({"train_data": {**changes, "crop_size": 32}})
    with Pool.open(config.train_data, 2) as opened:
        yield opened


def batches(pool, **changes) -> Batches:
    options = {"batch_size": 8, "crop": 32, "base": 48, "seed": 0, **changes}
    return Batches(pool, resolve("sobel_3"), **options)


@pytest.mark.parametrize(("crop", "base"), [(32, 48), (64, 96)])
def test_targets_are_the_filter_of_the_pictures(pool, crop, base):
    images, targets = batches(pool, crop=crop, base=base).get(3)
    assert images.shape == (8, crop, crop, 3)
    assert targets.shape == (8, crop, crop)
    assert images.dtype == targets.dtype == np.uint8
    for image, target in zip(images, targets, strict=True):
        np.testing.assert_array_equal(target, apply_filter("sobel_3", image))


def test_crops_are_regions_of_the_first_pictures_in_eight_orientations(pool):
    stored = [pool[i] for i in range(pool.pictures(4))]
    images, _ = batches(pool, crop=64, base=96, batch_size=64).get(0)
    orientations = set()
    for image in images:
        places = [
            (turned, which)
            for turned in range(8)
            for which, picture in enumerate(stored)
            if _holds(picture, _turn(image, turned))
        ]
        assert len(places) == 1
        orientations.add(places[0][0])
    assert orientations == set(range(8))


def _turn(image, number):
    image = np.rot90(image, number % 4)
    return np.ascontiguousarray(image[:, ::-1] if number >= 4 else image)


def _holds(picture, part) -> bool:
    difference = cv2.matchTemplate(picture, part, cv2.TM_SQDIFF)
    y, x = np.unravel_index(difference.argmin(), difference.shape)
    return bool((picture[y : y + len(part), x : x + len(part)] == part).all())


def test_an_early_stage_sees_the_same_scene_at_half_the_size(pool):
    assert batches(pool).region == batches(pool, crop=64, base=96).region == 64


def test_a_batch_follows_from_seed_stage_and_index(pool):
    one = batches(pool).get(5)
    np.testing.assert_array_equal(one[0], batches(pool).get(5)[0])
    for other in (batches(pool).get(6), batches(pool, seed=1).get(5)):
        assert (one[0] != other[0]).any()


def test_fresh_processes_and_caches_give_the_same_batches(tmp_path):
    code = (
        "import hashlib, sys\n"
        "from clapp.pool.batches import Batches; from clapp.config import load_config\n"
        "from clapp.filters.library import resolve; from clapp.pool.pool import Pool\n"
        "config = load_config({'train_data': {'name': 'photos+synthetic', 'min_buffer': 4}})\n"
        "with Pool.open(config.train_data, 1) as pool:\n"
        "    batches = Batches(pool, resolve('sobel_3'), 8, 64, 128, 0)\n"
        "    data = b''.join(a.tobytes() for i in range(6) for a in batches.get(i))\n"
        "print(hashlib.sha256(data).hexdigest())\n"
    )
    seen = set()
    for name in ("one", "another"):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={"CLAPP_CACHE": str(tmp_path / name), "PATH": "/usr/bin"},
            capture_output=True,
            check=True,
            text=True,
        )
        seen.add(result.stdout)
    assert len(seen) == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_prefetching_keeps_the_order(pool, workers):
    plain = islice(batches(pool).prefetch(2, 0), 6)
    with closing(batches(pool).prefetch(2, workers)) as ahead:
        for index, (expected, got) in enumerate(zip(plain, ahead, strict=False), start=2):
            np.testing.assert_array_equal(expected[0], got[0])
            np.testing.assert_array_equal(expected[1], got[1])
            np.testing.assert_array_equal(got[0], batches(pool).get(index)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_a_filter_reach_the_caller(pool, workers, tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text("def fails(image): raise ValueError('no')\n")
    monkeypatch.syspath_prepend(tmp_path)
    broken = Batches(pool, resolve("failing:fails"), 4, 32, 48, 0)
    with (
        closing(broken.prefetch(0, workers)) as stream,
        pytest.raises(UserError, match="ValueError: no"),
    ):
        next(stream)
