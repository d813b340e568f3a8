"""Commands run in processes forked from one that has loaded the libraries, as `machine.py` does.

PyTorch and Optuna take two to three seconds of a processor in every process that imports them.
Only libraries are loaded before the fork: CLAPP itself is imported by each process anew, in its own
folder, with its own arguments and environment. What a command imports, and how fast, is a question
for `subprocess` instead.
"""

import atexit
import gc
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
LIBRARIES = (
    "torch", "optuna", "optuna.storages", "alembic.context", "sqlalchemy.orm", "pydantic",
    "scipy.special", "scipy.stats", "cv2", "PIL.Image", "rich.table", "rich.progress", "typer",
    "loguru", "numba",
)  # fmt: skip


def clapp(
    *words: str,
    cwd: Path | str | None = None,
    env: dict[str, str] | None = None,
    timeout: float = 600,
    limit: int | None = None,
    together: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """Run `clapp WORDS`, or `optimize.py WORDS` where that is the first word.

    Args:
        limit: bytes that each file it writes may have.
        together: both streams go to `stdout`, in their order.

    Raises:
        subprocess.TimeoutExpired: it ran longer than `timeout` seconds; it was killed.
    """
    server = _server()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        streams = [f"/proc/{os.getpid()}/fd/{s.fileno()}" for s in (out, out if together else err)]
        job = {
            "words": words,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "streams": streams,
            "timeout": timeout,
            "limit": limit,
        }
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        if code is None:
            raise subprocess.TimeoutExpired(words, timeout, _read(out), _read(err))
        return subprocess.CompletedProcess(words, code, _read(out), _read(err))


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


@cache
def _server() -> Any:
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    def stop() -> None:
        process.stdin.close()
        process.stdout.close()
        process.wait()

    atexit.register(stop)
    return process


def _serve() -> list[str]:
    """Answer jobs until there are no more; returns in each forked process, with its words."""
    for name in LIBRARIES:
        import_module(name)
    gc.freeze()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread does not survive a fork"
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            return _begin(job)
        signal.signal(signal.SIGALRM, lambda *_, child=child: os.killpg(child, signal.SIGKILL))
        signal.alarm(int(job["timeout"]))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        late = not signal.alarm(0)
        answer = None if late and status == -signal.SIGKILL else status
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    sys.exit()


def _begin(job: dict[str, Any]) -> list[str]:
    os.setsid()
    opened = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in job["streams"]]
    for to, file in enumerate((os.open(os.devnull, os.O_RDONLY), *opened)):
        os.dup2(file, to)
        os.close(file)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.path[:0] = [one for one in os.environ.get("PYTHONPATH", "").split(":") if one]
    if job["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
    return list(job["words"])


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    words = _serve()
    if words[0] == "optimize.py":
        sys.argv = [str(ROOT / "optimize.py"), *words[1:]]
        sys.path.insert(0, str(ROOT))
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        sys.argv = [str(ROOT / "clapp" / "__main__.py"), *words]
        sys.path.insert(0, str(Path.cwd()))  # as `python -m clapp` does
        runpy.run_module("clapp", run_name="__main__", alter_sys=True)
