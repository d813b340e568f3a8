"""A real `clapp serve` in a process of its own, and clients that behave badly."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

SECONDS = 120.0  # on a machine that does other things too


class Server:
    """A running server: its address, its process, and what it says on stderr."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self._log = process, url, log
        self.address = ("127.0.0.1", int(url.rpartition(":")[2]))
        self.client = httpx.Client(base_url=url, timeout=SECONDS)

    def log(self) -> str:
        return self._log.read_text()

    def figure(self, name: str) -> float:
        """A figure of /metrics by its name and labels, as they stand there; 0.0 without it."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.client.get("/metrics").text, re.M)
        return float(found[1]) if found else 0.0

    def wait_for(self, name: str, most: float) -> None:
        """Wait until a figure is at most `most`."""
        deadline = time.monotonic() + SECONDS
        while (found := self.figure(name)) > most:
            assert time.monotonic() < deadline, f"{name} stays {found}"
            time.sleep(0.05)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=SECONDS)

    def accepts(self) -> bool:
        """Whether it still takes new connections."""
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def begin(self, path: str, length: int, sent: bytes = b"") -> socket.socket:
        """A request whose body has `length` bytes, of which only `sent` are sent."""
        client = self.connect()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        client.sendall(head.encode() + sent)
        return client

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@contextmanager
def serving(folder: Path, *arguments: str | Path) -> Iterator[Server]:
    """`clapp serve ARGUMENTS` at a free port, ready; its stderr goes to a file in `folder`."""
    log = folder / "stderr.txt"
    command = [sys.executable, "-m", "clapp", "serve", *map(str, arguments), "--port=0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        ) as process,
    ):
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, log.read_text()
        server = Server(process, found[0], log)
        try:
            deadline = time.monotonic() + SECONDS
            while server.client.get("/ready").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield server
        finally:
            server.client.close()
            process.kill()


def rest(client: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    found = b""
    try:
        while part := client.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found
