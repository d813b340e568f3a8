"""The server of `clapp serve`: where it listens, how long it waits for clients, how it ends."""

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NoReturn

import uvicorn
from loguru import logger
from uvicorn.protocols.http.h11_impl import H11Protocol

from clapp.errors import UserError
from clapp.inference.serve.app import build
from clapp.inference.serve.limits import Limits
from clapp.inference.serve.models import open_models
from clapp.system.process import prepare_process

_BACKLOG = 1024


def serve(models: Sequence[str], host: str, port: int, limits: Limits) -> None:
    """Serve models until Ctrl-C or SIGTERM; the address is printed on stdout.

    After either, nothing new is accepted and what has been accepted is answered.

    Args:
        models: `PATH` or `NAME=PATH` each.
        host: there is no authentication, so it is the loopback interface unless somebody asks for
            another one.
        port: 0: any free one.

    Raises:
        UserError: a model cannot be used, or nothing can listen at the address.
    """
    prepare_process(threads=1)
    served = open_models(models, limits.memory)
    listening = _listen(host, port)
    longest = limits.seconds + 2 * limits.transfer + 1
    config = uvicorn.Config(
        build(served, limits),
        http=_patient(limits.transfer, longest),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,  # addresses of clients are nobody's business; /metrics counts
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(longest),
    )
    signal.signal(signal.SIGTERM, _end)  # uvicorn raises the signal once more when it has ended
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(
        f"{', '.join(served)}: http://{shown}:{listening.getsockname()[1]} (Ctrl-C ends it)\n"
    )
    sys.stdout.flush()  # whoever waits for the address reads a pipe
    if not _is_loopback(host):
        logger.warning(f"{host}: whoever reaches it may use it; there is no authentication")
    try:
        uvicorn.Server(config).run([listening])
    except KeyboardInterrupt:
        logger.info("server stopped")


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UserError(f"{host}:{port}: cannot be listened on: {error.strerror}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _patient(transfer: float, seconds: float) -> type[asyncio.Protocol]:
    """HTTP/1.1 by uvicorn, whose own protocol waits for ever for clients.

    Args:
        transfer: for the head of each request to arrive, and for each answer to be taken.
        seconds: from a request's head to the end of its answer.
    """

    class Patient(H11Protocol):
        _patience: asyncio.TimerHandle | None = None
        _begun: object = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait(transfer)

        def handle_events(self) -> None:
            super().handle_events()
            if self.cycle is not self._begun:
                self._begun = self.cycle
                self._wait(seconds)

        def on_response_complete(self) -> None:
            self._wait(transfer)
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._patience is not None:
                self._patience.cancel()

        def _wait(self, seconds: float) -> None:
            if self._patience is not None:
                self._patience.cancel()
            self._patience = self.loop.call_later(seconds, self.transport.abort)

    return Patient
