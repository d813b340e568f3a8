"""`clapp serve-storage`: Optuna's gRPC proxy, one process between a database and many workers.

Signs of life are ordinary attributes of trials, so they pass through it. The server has no state
that would be lost when it restarts.
"""

import signal
import warnings
from concurrent.futures import ThreadPoolExecutor
from socket import create_server

import optuna
from loguru import logger
from optuna.exceptions import ExperimentalWarning

from clapp.errors import UserError
from clapp.study.storage.place import is_local
from clapp.study.storage.redaction import redact
from clapp.study.storage.storage import open_storage


def serve(url: str, host: str, port: int, threads: int) -> None:
    """Serve the database at `url` until Ctrl-C or SIGTERM.

    Args:
        host: the address to bind. There is no authentication: use one that only trusted machines
            reach.
        threads: requests worked on at once, each with a connection to the database.

    Raises:
        UserError: the database cannot be used or is a file, or the port is taken.
    """
    if is_local(url):
        raise UserError(f"--storage {url}: a file is for one machine; serve a database server's")
    try:
        create_server((host, port)).close()  # gRPC would share a port with another server
    except OSError as error:
        raise UserError(f"{host}:{port}: cannot be listened on: {error.strerror}") from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        storage = open_storage(url, connections=threads)
        logger.info(f"{redact(url)} is served at grpc://{host}:{port} (Ctrl-C ends it)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.run_grpc_proxy_server(
                storage,
                host=host,
                port=port,
                thread_pool=ThreadPoolExecutor(threads),
            )
    except KeyboardInterrupt:
        logger.info("no longer served")
