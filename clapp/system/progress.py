"""What takes long says what it is doing, wherever it happens, to whoever listens.

A command shows it in one line, a worker sends it to its driver. Without a listener nothing happens:
a program that uses CLAPP as a library hears nothing.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str], None]

_listeners: list[Listener] = []


def tell(text: str) -> None:
    """Say what is being done, in a few words; the next call replaces it."""
    if _listeners:
        _listeners[-1](text)


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """For the time of the block `listener` gets what is told, from any thread."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def tell_if_slow(text: str, seconds: float = 1.0) -> Iterator[None]:
    """Say `text` when the block takes longer than `seconds`."""
    timer = threading.Timer(seconds, tell, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
