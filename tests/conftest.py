"""One thread a process, and a picture cache of the session's own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium

os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes that tests start


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
