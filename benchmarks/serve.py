"""`clapp bench serve`: a server on loopback under load: how fast it answers, what it keeps.

The server is `clapp serve` in a process of its own, as somebody would start it; its clients are
threads of this process on the same cores, so its figures are lower bounds.
"""

import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.infer import photograph
from benchmarks.measure import Result, Row
from clapp.errors import ClappError
from clapp.images.decode import Picture

_SECONDS = 120.0
_TRANSFER = 2.0
_BODY = 2_000_000
_ROUNDS = 5
_PART = 65_536


class _Server:
    """A server that was started for the measurement."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)

    def get(self, path: str) -> tuple[int, str]:
        with closing(self.connect()) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def figure(self, name: str) -> float:
        """A figure of /metrics without labels."""
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        if found is None:
            raise ClappError(f"/metrics has no {name}")
        return float(found[1])


def run(requests: int, clients: int, size: int, model: Path | None) -> Result:
    """Load a server with pictures, then with what is none.

    Args:
        requests: good ones, in ten equal parts.
        clients: that ask at once, each over one connection.
        size: of the picture, pixels a side.
        model: export or trial folder, or an ONNX file; None: 59 parameters, untrained, in a folder.

    Raises:
        ClappError: the server ended, or a good request was not answered.
    """
    with TemporaryDirectory() as name:
        folder = model or _small(Path(name))
        with _serving(folder) as server:
            path = "/v1/models/model/apply"
            body = _png(photograph(size))
            alone, one = [], []
            for _ in range(_ROUNDS):  # in turn
                alone += _without_server(folder, body, requests // 100)
                one += _ask(server, path, body, requests // 100)
            rows = [_row("without a server", alone), _row("one client", one) | _kept(server)]
            rows += _load(server, path, body, requests, clients)
            rows += _misuse(server, path, requests // 100)
    ratio = float(np.median(one) / np.median(alone))
    return Result(rows, {"over HTTP / decode, apply and encode in one process": ratio})


def _without_server(model: Path, body: bytes, count: int) -> list[float]:
    """The seconds of each picture where nothing but the work is done."""
    from clapp.inference.serve.desk import Deadline
    from clapp.inference.serve.models import Served
    from clapp.inference.serve.pictures import PNG, read_file, write
    from clapp.system.process import prepare_process

    prepare_process(threads=1)
    served = Served("model", str(model), 256_000_000)
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        write(served.apply(read_file(body, 10**9), Deadline(_SECONDS)), PNG)
        seconds.append(time.perf_counter() - start)
    return seconds


def _row(name: str, seconds: list[float]) -> Row:
    p50, p99 = (float(np.quantile(seconds, q)) * 1000 for q in (0.5, 0.99))
    return {"name": name, "p50_ms": p50, "p99_ms": p99}


def _small(folder: Path) -> Path:
    from benchmarks.infer import small
    from clapp.config import load_config
    from clapp.training.folder import save_config, save_weights

    network = small()
    place = folder / "small"
    place.mkdir()
    save_config(place, load_config().model_copy(update={"model": network.model.config}))
    save_weights(place, network.model)
    return place


@contextmanager
def _serving(model: Path) -> Iterator[_Server]:
    options = ["--port=0", f"--transfer={_TRANSFER}", f"--body={_BODY}B", "--queue=32"]
    command = [sys.executable, "-m", "clapp", "serve", f"model={model}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_env()) as process:
        try:
            assert process.stdout is not None
            found = re.search(r":(\d+) ", process.stdout.readline())
            if found is None:
                raise ClappError("the server did not start")
            server = _Server(process, int(found[1]))
            while server.get("/ready")[0] != 200:
                time.sleep(0.1)
            yield server
            process.send_signal(signal.SIGTERM)
            if process.wait(_SECONDS):
                raise ClappError(f"the server ended with {process.returncode}")
        finally:
            process.kill()


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _png(picture: Picture) -> bytes:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _load(server: _Server, path: str, body: bytes, requests: int, clients: int) -> list[Row]:
    """A row for every tenth of the requests: growth would be seen."""
    rows: list[Row] = []
    for tenth in range(1, 11):
        start = time.perf_counter()
        each = [requests // 10 // clients + (i < requests // 10 % clients) for i in range(clients)]
        with ThreadPoolExecutor(clients) as executor:
            parts = executor.map(lambda count: _ask(server, path, body, count), each)
            seconds = [second for part in parts for second in part]
        rate = len(seconds) / (time.perf_counter() - start)
        name = f"{clients} clients, {tenth * requests // 10:,} requests"
        rows.append(_row(name, seconds) | {"per_second": rate} | _kept(server))
    return rows


def _kept(server: _Server) -> dict[str, float]:
    return {
        "mib": server.figure("process_resident_memory_bytes") / 2**20,
        "files": int(server.figure("process_open_fds")),
        "places": int(server.figure("clapp_places_taken")),
    }


def _ask(server: _Server, path: str, body: bytes, count: int) -> list[float]:
    """The seconds of each of `count` requests over one connection."""
    seconds = []
    with closing(server.connect()) as connection:
        for _ in range(count):
            start = time.perf_counter()
            connection.request("POST", path, body)
            answer = connection.getresponse()
            answer.read()
            seconds.append(time.perf_counter() - start)
            if answer.status != 200:
                raise ClappError(f"a picture was answered with {answer.status}")
    return seconds


def _misuse(server: _Server, path: str, times: int) -> list[Row]:
    """A row for each kind of bad request: what it is answered with, and what is kept of it.

    Args:
        times: each kind is sent in each of five rounds; a tenth of it by clients that are slow.
    """
    photo = _png(photograph(224))
    kinds: dict[str, tuple[int, Callable[[], str]]] = {
        "not a picture": (times, lambda: _post(server, path, b"no picture" * 1000)),
        "truncated": (times, lambda: _post(server, path, photo[: len(photo) // 2])),
        "decompression bomb": (times, lambda: _post(server, path, _bomb())),
        "100 MB body": (max(1, times // 10), lambda: _large(server, path, 100_000_000)),
        "slow body": (max(1, times // 10), lambda: _slow(server, path, photo)),
        "no request": (max(1, times // 10), lambda: _raw(server, b"POST ")),
    }
    rows = []
    for name, (count, send) in kinds.items():
        found: Counter[str] = Counter()
        for _ in range(_ROUNDS):
            with ThreadPoolExecutor(min(count, 16)) as executor:
                found.update(executor.map(lambda _, send=send: send(), range(count)))
        answers = ", ".join(f"{count} x {status}" for status, count in found.most_common())
        _settle(server)
        rows.append({"name": f"{name}: {answers}", **_kept(server)})
    return rows


def _settle(server: _Server) -> None:
    """Wait until the server has sent away those that it is through with."""
    deadline = time.monotonic() + 10 * _TRANSFER
    while server.figure("clapp_places_taken") and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(_TRANSFER + 0.5)


def _post(server: _Server, path: str, body: bytes) -> str:
    with closing(server.connect()) as connection:
        try:
            connection.request("POST", path, body)
            return str(connection.getresponse().status)
        except OSError:
            return "closed"


def _large(server: _Server, path: str, size: int) -> str:
    """A client that sends until it is answered, as curl does."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS) as client:
        client.sendall(head)
        for _ in range(size // _PART):
            answered, *_ = select.select([client], [], [], 0)
            if answered:
                break
            client.sendall(bytes(_PART))
        return client.recv(100).split()[1].decode()


def _slow(server: _Server, path: str, body: bytes) -> str:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return _raw(server, head.encode() + body[:100])


def _raw(server: _Server, content: bytes) -> str:
    """Send `content` and nothing more, and wait for whatever comes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS) as client:
        client.sendall(content)
        try:
            answer = client.recv(100)
        except OSError:
            answer = b""
    return answer.split()[1].decode() if answer else "closed"


_BOMB: list[bytes] = []
_MAKING = threading.Lock()


def _bomb() -> bytes:
    """A PNG file of 400 megapixels in some 1.2 MB."""
    with _MAKING:
        if not _BOMB:
            buffer = BytesIO()
            Image.new("RGB", (20_000, 20_000)).save(buffer, "PNG")
            _BOMB.append(buffer.getvalue())
    return _BOMB[0]
