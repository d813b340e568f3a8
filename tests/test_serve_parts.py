"""The parts of a server: places and deadlines, models by name, pictures within limits."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from clapp.errors import UserError
from clapp.export.onnx import write_onnx
from clapp.inference.picture import filter_picture
from clapp.inference.runner import open_runner
from clapp.inference.serve.desk import Deadline, Desk, Place
from clapp.inference.serve.limits import limits
from clapp.inference.serve.models import Served, open_models
from clapp.inference.serve.pictures import JPEG, PNG, RAW, accepted
from clapp.inference.serve.refused import RefusedError
from tests.test_infer import save_model, write_foreign

FAR = Deadline(1000)


async def ask(place: Place, work, seconds: float = 100.0, gone=None):
    with place:
        return await place.do(work, seconds, gone or asyncio.get_running_loop().create_future())


def refusal(call) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value


def test_a_place_is_free_again_after_its_work() -> None:
    desk = Desk(1, 1)
    assert asyncio.run(ask(desk.place(), lambda _: 7)) == 7
    assert desk.taken == 0
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask(desk.place(), lambda _: 1 // 0))
    assert desk.taken == desk.waiting == 0
    desk.close()


def test_no_more_places_than_there_are() -> None:
    desk = Desk(2, 1)
    with desk.place(), desk.place(), desk.place():
        assert (desk.taken, desk.waiting) == (3, 1)
        assert refusal(desk.place).status == 429
    assert desk.taken == 0
    desk.close()


@pytest.mark.parametrize("leaves", [False, True])
def test_work_that_takes_too_long_or_that_nobody_waits_for(leaves: bool) -> None:
    """The place stays taken until the thread has seen it; what waits behind it never starts."""
    desk, goes_on, seen, started = Desk(1, 1), threading.Event(), [], []

    def long(deadline: Deadline) -> None:
        goes_on.wait()
        try:
            deadline.check()
        except RefusedError as refused:
            seen.append(refused.status)

    async def both() -> list[BaseException]:
        gone = asyncio.get_running_loop().create_future()
        if leaves:
            asyncio.get_running_loop().call_later(0.05, gone.set_result, None)
        seconds = 100.0 if leaves else 0.05
        return await asyncio.gather(
            ask(desk.place(), long, seconds, gone),
            ask(desk.place(), started.append, seconds, gone),
            return_exceptions=True,
        )

    found = asyncio.run(both())
    assert [error.status for error in found] == [400 if leaves else 504] * 2
    assert desk.taken == 1
    goes_on.set()
    deadline = time.monotonic() + 60
    while desk.taken:
        assert time.monotonic() < deadline
    assert seen == [504]
    assert started == []
    desk.close()


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "edges"
    return save_model(folder, capacity=2, num_layers=1, padding="reflect")[0]


def drawn(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_large_pictures_are_cut_into_tiles_until_time_is_over(edges: Path) -> None:
    picture = drawn(300, 400)
    model = Served("edges", str(edges), 4_000_000)
    assert np.array_equal(model.apply(picture, FAR), filter_picture(open_runner(edges), picture))
    checks = []

    class Counting(Deadline):
        def check(self) -> None:
            checks.append(1)
            super().check()

    model.apply(picture, Counting(100))
    assert len(checks) > 4  # one a tile
    assert refusal(lambda: model.apply(picture, Deadline(-1))).status == 504
    assert refusal(lambda: model.classical(picture, Deadline(-1))).status == 504
    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(lambda _: model.apply(picture, FAR), range(8)))
    assert all(np.array_equal(one, found[0]) for one in found)


def test_a_model_that_needs_whole_pictures_gets_no_larger_ones(tmp_path: Path) -> None:
    write_foreign(tmp_path / "mean.onnx", [None, 3, None, None])
    model = Served("mean", str(tmp_path / "mean.onnx"), 10_000_000)
    assert model.filter_name is None
    assert model.apply(drawn(100, 100), FAR).shape == (100, 100)
    refused = refusal(lambda: model.apply(drawn(200, 200), FAR))
    assert refused.status == 413
    assert "needs the whole picture at once" in str(refused)
    refused = refusal(lambda: model.classical(drawn(9, 9), FAR))
    assert (refused.status, str(refused)) == (404, "mean: its classical filter is not known here")


def test_a_model_for_one_size_only(tmp_path: Path) -> None:
    write_foreign(tmp_path / "one.onnx", [1, 3, 8, 8])
    model = Served("one", str(tmp_path / "one.onnx"), 10_000_000)
    assert "cannot be applied to (1, 3, 64, 64)" in str(model.warm_up())
    assert model.apply(drawn(8, 8), FAR).shape == (8, 8)
    assert refusal(lambda: model.apply(drawn(9, 8), FAR)).status == 422


def test_a_filter_that_fails_or_is_elsewhere(tmp_path: Path, edges: Path) -> None:
    net = save_model(tmp_path / "m", capacity=1, num_layers=1, padding="reflect")[1]
    write_onnx(net, tmp_path / "own.onnx", {"min_size": "1", "filter": '"nowhere:filter"'})
    own = Served("own", str(tmp_path / "own.onnx"), 10_000_000)
    assert own.filter_name is None
    model = Served("edges", str(edges), 10_000_000)
    assert refusal(lambda: model.classical(drawn(9, 9)[..., :0], FAR)).status == 422


def test_models_by_name(edges: Path, tmp_path: Path) -> None:
    found = open_models([str(edges), f"a.b-c_1={edges}"], 1)
    assert list(found) == ["edges", "a.b-c_1"]
    (tmp_path / "x=y").symlink_to(edges)
    for given, reason in (
        ([edges, edges], "there is a model 'edges' already; NAME=PATH names it"),
        ([f"ä={edges}"], "'ä' cannot be a name here"),
        ([f"={edges}"], "'' cannot be a name here"),
        ([tmp_path / "x=y"], "'x=y' cannot be a name here"),
        ([f"a={tmp_path / 'none'}"], "does not exist"),
    ):
        with pytest.raises(UserError, match=reason):
            open_models(map(str, given), 1)


def test_what_is_accepted() -> None:
    for header, media in (
        (None, PNG),
        ("*/*", PNG),
        ("image/*;q=0.5", PNG),
        ("text/html,image/jpeg", JPEG),
        ("Application/Octet-Stream", RAW),
    ):
        assert accepted(header) == media
    assert refusal(lambda: accepted("text/html, image/webp")).status == 406


def test_sizes() -> None:
    assert limits(body="1.5MiB", memory="2MB").body == 3 * 2**19
    for text in ("0", "-1", "much", ""):
        with pytest.raises(UserError, match=r"--body .*: a size such as 256MB"):
            limits(body=text)
