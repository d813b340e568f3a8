"""The pictures that are worked on and that wait: as many as a server has places for."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar

from clapp.inference.serve.refused import RefusedError

T = TypeVar("T")


class Desk:
    """Places for requests: those a thread works on, and those that wait.

    A request takes its place before its body is read, so that bodies in memory are bounded too.
    """

    def __init__(self, workers: int, queue: int) -> None:
        self._executor = ThreadPoolExecutor(workers, "picture")
        self._workers = workers
        self._places = workers + queue
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Requests that no thread can be working on yet."""
        return max(0, self._taken - self._workers)

    def place(self) -> "Place":
        """A place for one request, to be used in a `with`.

        Raises:
            RefusedError: all are taken.
        """
        with self._lock:
            if self._taken >= self._places:
                raise RefusedError(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"all {self._places} places are taken; try again in a second",
                    Retry_After="1",
                )
            self._taken += 1
        return Place(self)

    def start(self, work: Callable[[], T]) -> "Future[T]":
        """Have a thread do `work`, in the order of the calls."""
        return self._executor.submit(work)

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self._taken -= 1

    def close(self) -> None:
        """Start nothing more; what is under way ends at its deadline."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Place:
    """One request's place; free again when nobody works for it any more."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._future: Future[Any] | None = None

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        if self._future is None or self._future.cancel():
            self._desk.leave()
        else:  # a thread still works, or did
            self._future.add_done_callback(lambda _: self._desk.leave())

    async def do(
        self, work: Callable[["Deadline"], T], seconds: float, gone: "asyncio.Future[Any]"
    ) -> T:
        """The result of `work`, done by a thread.

        Args:
            work: is given its deadline, and looks at it now and then.
            seconds: to wait for it, for its turn included.
            gone: done when nobody waits for the result any more.

        Raises:
            RefusedError: it takes too long, or nobody waits.
        """
        deadline = Deadline(seconds)
        future = self._desk.start(lambda: work(deadline))
        self._future = future
        found = asyncio.wrap_future(future)
        waited: set[asyncio.Future[Any]] = {found, gone}
        done, _ = await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if found in done:
            return found.result()
        found.cancel()
        deadline.cancel()
        if gone in done:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the client went away")
        raise too_slow(seconds)


class Deadline:
    """When a piece of work has to end, which the thread that does it asks."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def cancel(self) -> None:
        """It is over now."""
        self._end = 0.0

    def check(self) -> None:
        """Go on, or not.

        Raises:
            RefusedError: it is over.
        """
        if time.monotonic() > self._end:
            raise too_slow(self._seconds)


def too_slow(seconds: float) -> RefusedError:
    """The refusal of what takes longer than a server allows."""
    return RefusedError(
        HTTPStatus.GATEWAY_TIMEOUT,
        f"no answer within {seconds:g} seconds; send a smaller picture, or try again later",
    )
