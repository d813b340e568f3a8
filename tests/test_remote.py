"""Tar shards and rows over a network that fails, and pictures that two sections share."""

import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from clapp.commands.app import app
from clapp.config import load_config
from clapp.errors import ConfigError, UserError
from clapp.images import open_source, shared_pictures
from clapp.images.remote import retries
from clapp.images.remote.retries import may_pass, resumed

RNG = np.random.default_rng(0)


class Server:
    """Serves a folder; cuts each connection after `cut` bytes of a body as often as it is told."""

    def __init__(self, folder: Path) -> None:
        self.cuts = 0
        self.cut = 5000
        self.ranges = True
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.reply(body=False)

            def do_GET(self) -> None:
                self.reply(body=True)

            def reply(self, body: bool) -> None:
                path = folder / self.path.lstrip("/")
                if not path.is_file():
                    self.send_error(404)
                    return
                content = path.read_bytes()
                wanted = self.headers.get("Range", "bytes=0-") if outer.ranges else "bytes=0-"
                outer.asked.append(wanted)
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                part = content[int(first) : int(last) + 1 if last else None]
                self.send_response(206 if outer.ranges and "Range" in self.headers else 200)
                self.send_header("Content-Length", str(len(part)))
                self.send_header("Accept-Ranges", "bytes" if outer.ranges else "none")
                start = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
                self.send_header("Content-Range", start)
                self.end_headers()
                if not body:
                    return
                if outer.cuts and len(part) > outer.cut:
                    outer.cuts -= 1
                    self.wfile.write(part[: outer.cut])
                    self.wfile.flush()
                    self.close_connection = True
                    return
                self.wfile.write(part)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(retries, "WAITS", (0.01, 0.02, 0.03, 0.04, 0.05))
    server = Server(tmp_path)
    yield server
    server.server.shutdown()
    server.server.server_close()


def png(side: int = 40) -> bytes:
    content = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (side, side, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


def write_shards(folder: Path, count: int = 3, each: int = 6) -> list[bytes]:
    pictures = []
    for number in range(count):
        with tarfile.open(folder / f"shard-{number:03d}.tar", "w") as archive:
            for index in range(each):
                content = png()
                pictures.append(content)
                for name, data in ((f"{index}.png", content), (f"{index}.cls", b"7")):
                    info = tarfile.TarInfo(f"{number}-{name}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return pictures


def section(name: str, **keys: Any) -> Any:
    return load_config({"train_data": {"name": name, "split": "all", **keys}}).train_data


def pixels(pictures: Any) -> set[bytes]:
    return {np.asarray(picture).tobytes() for picture in pictures}


def decoded(contents: list[bytes]) -> set[bytes]:
    return pixels(Image.open(io.BytesIO(content)) for content in contents)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_resumed_where_it_was(
    server: Server, tmp_path: Path, ranges: bool
) -> None:
    pictures = write_shards(tmp_path)
    server.cuts, server.ranges, server.cut = 4, ranges, 9000
    source = open_source(section(f"tar:{server.url}/shard-{{000..002}}.tar"))
    found = list(source.epoch(0))
    assert server.cuts == 0  # all happened
    assert len(found) == 18
    assert pixels(found) == decoded(pictures)
    assert not source.skipped.names
    assert any(one != "bytes=0-" for one in server.asked) == ranges


def test_what_never_comes_back_is_said(server: Server, tmp_path: Path) -> None:
    write_shards(tmp_path, 1)
    server.cuts, server.cut, server.ranges = 1000, 100, False
    with pytest.raises((ConnectionError, OSError), match=r"cut after \d+ of \d+ bytes|cut before"):
        list(open_source(section(f"tar:{server.url}/shard-000.tar")).epoch(0))
    with pytest.raises(UserError, match="the server says 404"):
        list(open_source(section(f"tar:{server.url}/none.tar")).epoch(0))


def test_rows_of_a_dataset_are_read_again(server: Server, tmp_path: Path) -> None:
    contents = [png(60) for _ in range(4)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    (tmp_path / "data").mkdir()
    urls = [f"{server.url}/{number}.png" for number in range(4)]
    pq.write_table(pa.table({"image": urls}), tmp_path / "data" / "train.parquet")
    server.cuts = 2
    source = open_source(section(f"huggingface:{tmp_path / 'data'}", split="train"))
    found = list(source.epoch(0))
    assert server.cuts == 0
    assert pixels(found) == decoded(contents)
    assert not source.skipped.names


def test_a_stream_goes_on_behind_what_it_has_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "WAITS", (0, 0, 0))
    starts = []

    def make(start: int) -> Iterator[int]:
        starts.append(start)
        for number in range(start, 9):
            if number in (3, 4) and starts.count(number) == 0:
                raise ConnectionResetError("cut")
            yield number

    assert list(resumed(make, "it")) == list(range(9))
    assert starts == [0, 3, 4]
    with pytest.raises(ValueError, match="broken"):
        list(resumed(lambda _: iter_broken(), "it"))


def iter_broken() -> Iterator[int]:
    raise ValueError("broken")
    yield 1


def test_which_errors_may_pass() -> None:
    import httpx
    import requests

    assert may_pass(requests.ConnectionError("x"))
    assert may_pass(httpx.ReadTimeout("x"))
    outer = RuntimeError("x")
    outer.__cause__ = TimeoutError("y")
    assert may_pass(outer)
    for lasting in (FileNotFoundError("x"), ValueError("x"), requests.HTTPError("404")):
        assert not may_pass(lasting)


def test_shards_of_a_folder_their_order_and_their_splits(tmp_path: Path) -> None:
    pictures = write_shards(tmp_path, each=20)
    first = [p.tobytes() for p in open_source(section(f"tar:{tmp_path}")).epoch(0)]
    assert set(first) == decoded(pictures)
    again = [p.tobytes() for p in open_source(section(f"tar:{tmp_path}")).epoch(0)]
    assert first == again
    assert first != [p.tobytes() for p in open_source(section(f"tar:{tmp_path}")).epoch(1)]
    few = section(f"tar:{tmp_path}/shard-{{000..002}}.tar", shuffle_buffer=2)
    assert pixels(open_source(few).epoch(0)) == decoded(pictures)
    parts = [
        pixels(open_source(section(f"tar:{tmp_path}", split=split)).epoch(0))
        for split in ("train", "validation")
    ]
    assert not parts[0] & parts[1]


def test_a_shard_that_ends_too_early_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    write_shards(tmp_path, 2)
    path = tmp_path / "shard-001.tar"
    path.write_bytes(path.read_bytes()[:14000])
    source = open_source(section(f"tar:{tmp_path}"))
    assert 6 < len(list(source.epoch(0))) < 12
    assert list(source.skipped.names) == [f"the rest of {path}"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tar:", "tar:PATH is expected"),
        ("tar:/nowhere/at/all.tar", "there is no such file"),
        ("tar:{folder}/empty", "there are no .tar files"),
    ],
)
def test_shards_that_are_not_there(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        open_source(section(name.format(folder=tmp_path)))


def test_shards_in_both_sections_are_found(tmp_path: Path) -> None:
    write_shards(tmp_path)
    whole = section(f"tar:{tmp_path}")
    one = section(f"tar:{tmp_path}/shard-001.tar")
    other = section(f"tar:{tmp_path}/shard-{{001..002}}.tar")
    assert shared_pictures(whole, one)
    assert shared_pictures(one, other)
    assert not shared_pictures(section(f"tar:{tmp_path}/shard-000.tar"), other)
    shares = [section(f"tar:{tmp_path}", split=split) for split in ("train", "test")]
    assert not shared_pictures(*shares)
    with pytest.raises(ConfigError, match="share pictures"):
        load_config({s: {"name": f"tar:{tmp_path}", "split": "all"} for s in SECTIONS})


SECTIONS = ("train_data", "valid_data")


def test_data_check(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    contents = [png() for _ in range(5)]
    for number in range(3):
        (tmp_path / "a" / f"{number}.png").write_bytes(contents[number])
    for number in (3, 4):
        (tmp_path / "b" / f"{number}.png").write_bytes(contents[number])
    words = ["data", "check", "--set", f"train_data.name=folder:{tmp_path / 'a'}"]
    words += ["--set", "train_data.split=all", "--set", "valid_data.split=all"]
    words += ["--set", f"valid_data.name=folder:{tmp_path / 'b'}"]
    done = CliRunner().invoke(app, [*words, "--content"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "by content they share none either" in done.stdout
    Image.open(io.BytesIO(contents[1])).save(tmp_path / "b" / "copy.bmp")
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "they share no picture" in done.stdout
    with pytest.raises(UserError, match="share 1 pictures of the same content"):
        CliRunner().invoke(app, [*words, "--content"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="share pictures: folder"):
        CliRunner().invoke(
            app,
            [*words, "--set", f"valid_data.name=folder:{tmp_path / 'a'}"],
            catch_exceptions=False,
        )
