"""The storage behind `clapp serve-storage`, as its workers open it."""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy

CONNECT_SECONDS = 10.0


def connect(host: str, port: int) -> BaseStorage:
    """The storage behind a server.

    Raises:
        ConnectionError: the server does not answer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = GrpcStorageProxy(host=host, port=port)
    try:
        storage.wait_server_ready(CONNECT_SECONDS)
    except ConnectionError:
        raise ConnectionError(f"nobody answers within {CONNECT_SECONDS:g} s") from None
    return storage
