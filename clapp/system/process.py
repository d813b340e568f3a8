"""Settings for a process of our own, a command or a worker; never for somebody's program."""

import ctypes
import os
import sys

# glibc's numbers of its options, and the largest size it lets come from the heap.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20
_KEPT = 256 << 20


def prepare_process(threads: int | None = None) -> None:
    """One thread for OpenCV, memory that is kept for reuse, and `threads` for torch if given."""
    import cv2

    cv2.setNumThreads(1)  # its pool costs more than it brings on crops of this size
    keep_memory()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def keep_memory() -> None:
    """Tell glibc to keep up to 256 MiB of freed memory; without effect on other C libraries.

    Every step allocates the same megabytes again. By default they may go back to the system and
    come as new pages, each cleared by the kernel: up to a fifth of the time of a step.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, _KEPT)


def cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
