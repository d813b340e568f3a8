"""Temporary network errors, and reads that continue after them."""

import io
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from loguru import logger

from clapp.errors import UserError, one_line

T = TypeVar("T")
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each new try; a successful read starts again with the first."""
_TIMEOUT = 30.0
_PASSING = {
    *("ConnectionError", "ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError", "Timeout"),
    *("ChunkedEncodingError", "ProtocolError", "RemoteProtocolError", "IncompleteRead"),
    *("RemoteDisconnected", "ClientConnectionError", "ClientPayloadError", "TimeoutError"),
    *("ServerDisconnectedError", "FSTimeoutError", "PoolTimeout", "WriteError", "URLError"),
}
"""Names of the exceptions of Python, requests, httpx, aiohttp, urllib3 and fsspec."""
_LASTING = {"OfflineModeIsEnabled", "HTTPError", "HTTPStatusError", "RepositoryNotFoundError"}
_BUSY = (408, 425, 429, 500, 502, 503, 504)


def may_pass(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a network error that may be gone at the next
    try."""
    while error is not None:
        names = {kind.__name__ for kind in type(error).__mro__}
        status = getattr(error, "code", None) or getattr(error, "status_code", None)
        status = status or getattr(getattr(error, "response", None), "status_code", None)
        if status in _BUSY:
            return True
        if names & _PASSING and type(error).__name__ not in _LASTING:
            return True
        error = error.__cause__ or error.__context__
    return False


def resumed(make: Callable[[int], Iterator[T]], name: str) -> Iterator[T]:
    """Yield the items of `make(0)`; after a network error, go on with `make(n)` after n items.

    Args:
        make: returns the items from a given number on.
        name: name of the source, for the log.

    Raises:
        Exception: an error that is not temporary, or that remains after all of `WAITS`.
    """
    done = failures = 0
    while True:
        try:
            for item in make(done):
                done += 1
                failures = 0
                yield item
            return
        except Exception as error:
            # If nothing was read yet, there may be no network at all.
            most = len(WAITS) if done else 2
            if failures >= most or not may_pass(error):
                raise
            _wait(name, error, failures)
            failures += 1


def read_again(read: Callable[[], T], name: str) -> T:
    """The result of `read`, which is tried again after network errors.

    Raises:
        Exception: see `resumed`.
    """
    for failures in range(len(WAITS) + 1):
        try:
            return read()
        except Exception as error:
            if failures == len(WAITS) or not may_pass(error):
                raise
            _wait(name, error, failures)
    raise AssertionError


def _wait(name: str, error: Exception, failures: int) -> None:
    seconds = WAITS[failures]
    logger.info(f"{name}: {one_line(error)}; trying again in {seconds:g} s")
    time.sleep(seconds)


class RemoteFile(io.RawIOBase):
    """A file of an HTTP server, read from beginning to end; after a broken connection it goes on.

    Raises:
        UserError: the server does not have the file.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url, self._at = url, 0
        self._length: int | None = None
        self._response: Any = None

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes; 0 at the end."""
        data = read_again(lambda: self._read(len(buffer)), self._url)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close the connection."""
        self._drop()
        super().close()

    def _read(self, most: int) -> bytes:
        try:
            if self._response is None:
                self._open()
            data: bytes = self._response.read(most)
        except BaseException:
            self._drop()
            raise
        if not data and self._length is not None and self._at < self._length:
            self._drop()
            raise ConnectionError(f"cut after {self._at} of {self._length} bytes")
        return data

    def _open(self) -> None:
        headers = {"Range": f"bytes={self._at}-"} if self._at else {}
        request = Request(self._url, headers=headers)  # noqa: S310 - http or https, see `tar`
        try:
            self._response = urlopen(request, timeout=_TIMEOUT)  # noqa: S310
        except HTTPError as error:
            if error.code in _BUSY:
                raise
            raise UserError(f"{self._url}: the server says {error.code} {error.reason}") from error
        size = self._response.headers.get("Content-Length")
        begun = self._at if self._response.status == 206 else 0
        self._length = None if size is None else begun + int(size)
        skipped = begun
        while skipped < self._at:  # the server ignores the range and begins anew
            skipped += len(self._response.read(min(1 << 16, self._at - skipped)) or self._cut())

    def _cut(self) -> bytes:
        raise ConnectionError(f"cut before byte {self._at}")

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
