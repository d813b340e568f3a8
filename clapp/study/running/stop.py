"""Requests to stop: a training stops at once, other work once its data are saved."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LAST_RESORT_SECONDS = 5


class Stop:
    """Whether this worker was asked to stop, by a signal or by the death of its parent."""

    def __init__(self) -> None:
        self.requested = False
        self._interruptible = False

    def install(self) -> None:
        """Listen for SIGINT, SIGTERM and the end of standard input."""
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)
        threading.Thread(target=self._watch_parent, daemon=True).start()

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """While the block runs, a request to stop raises KeyboardInterrupt."""
        self._interruptible = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._interruptible = False

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._interruptible:
            self._interruptible = False
            raise KeyboardInterrupt

    def _watch_parent(self) -> None:
        # The driver holds the other end of the pipe, so the file ends when it dies, even by kill
        # -9.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(LAST_RESORT_SECONDS)
        os._exit(1)
