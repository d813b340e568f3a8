"""Process-wide settings of commands and workers; programs that import CLAPP keep their own."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from clapp.system.files import PACKAGE

# glibc's numbers of its options, and the largest size it lets come from the heap.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20
_KEPT = 256 << 20


_START = """
import importlib.util, runpy, sys
folder, module = sys.argv.pop(1), sys.argv.pop(1)
spec = importlib.util.spec_from_file_location(
    "clapp", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["clapp"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["clapp"])
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def command(module: str, *arguments: str) -> list[str]:
    """The command line that starts a module of CLAPP in a process of its own.

    It works like `python -m MODULE ARGUMENTS`, with two differences: the process uses this copy of
    CLAPP even where another one is installed, and the working directory is not on the path, so that
    a user's `random.py` there is not imported.
    """
    return [sys.executable, "-P", "-c", _START, str(PACKAGE), module, *arguments]


def spawn(module: str, log: Path, **environment: str) -> "subprocess.Popen[str]":
    """Start a module of CLAPP that is talked to by its standard input and output.

    Args:
        log: the file to which what it writes to standard error is added.
        environment: variables beside those of this process.
    """
    with log.open("a") as file:
        return subprocess.Popen(
            command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, **environment},
        )


def reserve_output() -> TextIO:
    """Standard output for this process's own lines; what libraries print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel


def open_streams() -> None:
    """Open standard input, output and error to the null device where they are closed (daemons).

    Otherwise the next file to be opened, such as a database, would get the descriptor of one of
    them, and printed text would be written into that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)  # child processes inherit it
            if opened != number:
                os.close(opened)
            else:
                os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def prepare_process(threads: int | None = None) -> None:
    """Limit OpenCV to one thread and torch to `threads`, if given; let glibc keep freed memory."""
    import cv2

    cv2.setNumThreads(1)  # on small crops OpenCV's thread pool takes longer than it saves
    keep_memory()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def keep_memory() -> None:
    """Tell glibc to keep up to 256 MiB of freed memory; without effect on other C libraries.

    Every training step allocates the same megabytes again. By default glibc may return them to the
    system, and the kernel then clears new pages: up to a fifth of the time of a step.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, _KEPT)


def cores() -> int:
    """The number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
