"""One process in front of a database for many workers: Optuna's gRPC proxy, with signs of life.

Optuna knows no heartbeats through its proxy, so a killed worker's trial would be RUNNING for ever.
Here a worker sends them as an attribute with a reserved name. The server does not store it but
records a heartbeat in the database, by the database's clock, and fails stale trials itself. So the
server keeps nothing that its restart would lose, and workers with and without the proxy see each
other's trials die.
"""

import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from socket import create_server
from typing import TYPE_CHECKING, Any

import optuna
from loguru import logger
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy
from optuna.storages._heartbeat import BaseHeartbeat

from clapp.errors import UserError
from clapp.study import storage as storages
from clapp.study.batching import BatchingStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study
    from optuna.trial import FrozenTrial

ALIVE = "clapp:alive"
CONNECT_SECONDS = 10.0


class ProxiedStorage(GrpcStorageProxy, BaseHeartbeat):
    """A worker's end: Optuna's, with heartbeats."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Tell the server that a trial's worker lives; one that is down does not end its thread."""
        import grpc  # type: ignore[import-untyped]

        try:
            self.set_trial_system_attr(trial_id, ALIVE, True)
        except grpc.RpcError as error:
            logger.warning(f"no heartbeat could be sent: {error.code().name}")

    def get_heartbeat_interval(self) -> int:
        """Seconds between heartbeats."""
        return storages.HEARTBEAT_SECONDS

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:  # noqa: ARG002
        return []  # the server fails them

    def get_heartbeat_stale_trial_callback(
        self,
    ) -> "Callable[[Study, FrozenTrial], None] | None":
        """Nothing more is done with stale trials."""
        return None


class ServedStorage(BatchingStorage):
    """The server's end: trials of many workers in one process."""

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store an attribute, or record a heartbeat."""
        if key == ALIVE:
            self.record_heartbeat(trial_id)
        else:
            super().set_trial_system_attr(trial_id, key, value)

    def _keep(self, *arguments: Any) -> None:
        """Store at once: the worker takes what was accepted for stored, and this may be killed."""
        super()._keep(*arguments)
        self._write()

    def _came_late(self, trials: set[int]) -> None:
        """Whoever happens to write is not to blame; the worker hears of it as it ends its trial."""


def connect(host: str, port: int) -> BaseStorage:
    """The storage behind a server.

    Raises:
        ConnectionError: nobody answers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = ProxiedStorage(host=host, port=port)
    try:
        storage.wait_server_ready(CONNECT_SECONDS)
    except ConnectionError:
        raise ConnectionError(f"nobody answers within {CONNECT_SECONDS:g} s") from None
    return storage


def serve(url: str, host: str, port: int, threads: int) -> None:
    """Serve the database at `url` until Ctrl-C or SIGTERM.

    Args:
        host: the server knows no passwords, so only addresses that others cannot reach are safe.
        threads: requests worked on at once, each with a connection to the database.

    Raises:
        UserError: the database cannot be used or is a file, or the port is taken.
    """
    if storages.is_sqlite(url):
        raise UserError(f"--storage {url}: SQLite is for one machine; serve a database server's")
    try:
        create_server((host, port)).close()  # gRPC would share a port with another server
    except OSError as error:
        raise UserError(f"{host}:{port}: cannot be listened on: {error.strerror}") from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        storage = storages.open_storage(url, kind=ServedStorage, connections=threads)
        threading.Thread(target=_fail_stale_trials, args=(storage,), daemon=True).start()
        logger.info(f"{storages.redact(url)} is served at grpc://{host}:{port} (Ctrl-C ends it)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.run_grpc_proxy_server(
                optuna.storages.get_storage(storage),
                host=host,
                port=port,
                thread_pool=ThreadPoolExecutor(threads),
            )
    except KeyboardInterrupt:
        logger.info("no longer served")


def _fail_stale_trials(storage: BaseStorage) -> None:
    while True:
        try:
            for study in optuna.get_all_study_names(storage):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)
                    optuna.storages.fail_stale_trials(
                        optuna.load_study(study_name=study, storage=storage)
                    )
        except (StorageInternalError, KeyError) as error:  # unreachable; just deleted
            logger.warning(f"stale trials could not be looked for: {error}")
        time.sleep(storages.HEARTBEAT_SECONDS)
