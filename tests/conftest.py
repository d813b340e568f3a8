"""One thread a process, and a picture cache of the session's own."""

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from browser import Browser, chromium
from forked import clapp
from postgres import postgres

os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes that tests start
# A shell without job control starts a background command with SIGINT ignored; children inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    "cluster", "families", "nothing_lost", "samplers", "study_run", "cli", "bench", "repeat",
    "settings", "bench_training",
)  # fmt: skip
"""Files that take half a minute and more; one of them at the end leaves a core without work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others keep their order."""
    order = [f"test_{name}.py" for name in LONGEST]
    items.sort(key=lambda one: order.index(one.path.name) if one.path.name in order else len(order))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CLAPP_CACHE"] = str(folder)
    yield folder
    del os.environ["CLAPP_CACHE"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests: `browser.open(page)` starts each of them afresh."""
    with chromium() as opened:
        yield opened


STUDY = """
description: four small networks
search_space:
  model.capacity: {type: int, low: 1, high: 6}
  model.activation: {type: categorical, choices: [abs, gelu, square]}
  train.learning_rate: {type: float, low: 0.002, high: 0.02, log: true}
baselines:
  reference: {train.max_iterations: 40}
config:
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 5}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 40, validation_interval: 10}
budget: {trials: 4}
"""


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the finished study `small`, really searched. Not to be written to."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "small.yaml").write_text(STUDY)
    done = clapp("optimize.py", "--study", "small.yaml", "--workers", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "results"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL of the session's own."""
    with postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database without tables; connections to it are closed after the test."""
    opened: list[Any] = []

    def connected(connection: Any, _: Any) -> None:
        opened.append(connection)

    name = f"d{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    sqlalchemy.event.listen(sqlalchemy.Pool, "connect", connected)
    yield postgres_server.removesuffix("postgres") + name
    sqlalchemy.event.remove(sqlalchemy.Pool, "connect", connected)
    for connection in opened:
        connection.close()
