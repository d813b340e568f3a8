"""Progress messages from anywhere in the process, delivered to the current listener.

A command shows them in one line; a worker sends them to its driver. Without a listener they are
dropped, so a program that uses CLAPP as a library prints nothing.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str], None]

_listeners: list[Listener] = []


def tell(text: str) -> None:
    """Send a message of a few words about the work in progress; the next call replaces it."""
    if _listeners:
        _listeners[-1](text)


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Deliver the messages of all threads to `listener` while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def tell_if_slow(text: str, seconds: float = 1.0) -> Iterator[None]:
    """Send `text` if the block takes longer than `seconds`."""
    timer = threading.Timer(seconds, tell, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
