"""optuna-dashboard for one study, with the pictures of its trials."""

import errno
import socket
import sys
import threading
import warnings
import webbrowser
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from loguru import logger

from clapp.errors import UserError
from clapp.study.dashboard.artifacts import open_artifacts
from clapp.study.dashboard.overview import Overview
from clapp.study.dashboard.trial_files import TrialFiles
from clapp.study.plan.existing import load_existing, where
from clapp.study.storage.storage import storage_of

_UNAVAILABLE = (errno.EADDRINUSE, errno.EACCES)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # open connections of browsers must not delay the exit
    allow_reuse_port = False


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing, because the page polls every few seconds."""


def serve(
    study: str,
    results: Path,
    storage: str | None = None,
    port: int = 8080,
    host: str = "127.0.0.1",
    artifacts: str | None = None,
    show: bool = False,
) -> None:
    """Serve the dashboard of `study` until Ctrl-C; its address is printed on stdout.

    The dashboard has no authentication and can delete studies, so `host` is the loopback interface
    by default. Choose another one only where the network is trusted, such as inside a container.

    Args:
        study: its name, or the path of its file.
        results: the folder that holds a folder for each study.
        storage: the URL of the study's storage; None: the file in the study's folder.
        artifacts: the folder or bucket with the pictures; None: in the results.
        port: the port to bind; if it is taken, or 0, any free port.
        show: open the address in a browser.

    Raises:
        UserError: no such study, or no address to listen on.
    """
    from optuna_dashboard import wsgi  # type: ignore[import-untyped]

    loaded = load_existing(study, results, storage)
    store = open_artifacts(artifacts, results / loaded.study_name)
    files = TrialFiles(loaded, results / loaded.study_name, store)
    opened = storage_of(loaded)
    app = files.beside(wsgi(opened, artifact_store=store))
    pages = Overview(loaded, files, where(results, storage))
    pages.refresh(at_once=True)
    with _listen(app, host, port) as server, pages.kept_up_to_date(), warnings.catch_warnings():
        # Optuna warns about importances of few trials at every request.
        warnings.filterwarnings("ignore", "Some regimes for parameter")
        port = server.server_port
        address = f"http://{host}:{port}/dashboard/studies/{opened.get_study_id_from_name(loaded.study_name)}"
        _announce(loaded.study_name, address, host, port)
        if show:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("dashboard stopped")


def _announce(study: str, address: str, host: str, port: int) -> None:
    sys.stdout.write(
        f"{study}: {address} (Ctrl-C ends it)\n"
        f"from another machine: ssh -L {port}:{host}:{port} {socket.gethostname()}, "
        "then open the same address there\n"
    )
    sys.stdout.flush()  # a program that waits for the address reads a pipe


def _listen(app: Any, host: str, port: int) -> WSGIServer:
    try:
        return make_server(host, port, app, _Server, _Handler)
    except OSError as error:
        if error.errno not in _UNAVAILABLE or port == 0:
            raise UserError(f"{host}:{port}: cannot be listened on: {error.strerror}") from error
    logger.info(f"port {port} is not available; taking a free one")
    return _listen(app, host, 0)
