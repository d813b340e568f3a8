"""Files of trials for the dashboard, made when they are viewed and served beside its pages.

A search that trains a trial in half a second has no time to draw pictures that nobody may view.
A trial saves only its weights; its preview, curve and ONNX file are made from them here. For trials
of other machines there are the files that their drivers put into the artifact store.
"""

import mimetypes
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger
from optuna.artifacts import get_all_artifact_meta, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound

from clapp.errors import UserError, one_line
from clapp.front.outcomes import front_of
from clapp.study.storage.keep import trial_folder
from clapp.study.storage.storage import storage_of
from clapp.system.files import atomic_path

if TYPE_CHECKING:
    from optuna import Study

    from clapp.study.dashboard.artifacts import ArtifactStore

    App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

PICTURES = ("preview.png", "curve.svg")
FILES = (*PICTURES, "model.safetensors", "model.onnx")
_ADDRESS = re.compile(r"/clapp/trials/(\d{1,9})/([a-z.]+)")


class TrialFiles:
    """Finds or makes the files of a study's trials.

    Args:
        folder: the study's results folder on this machine.
        store: the artifact store, with files from other machines.
    """

    def __init__(self, study: "Study", folder: Path, store: "ArtifactStore") -> None:
        self._study, self._folder, self._store = study, folder, store
        self._making = threading.Lock()  # the browser requests all pictures of a page at once

    def addresses(self, number: int) -> dict[str, str]:
        """File name -> its address on this server, for all files that a trial has or that can be
        made."""
        from clapp.training.folder import is_model_folder

        here = is_model_folder(trial_folder(self._folder, number))
        names = FILES if here else sorted(self._stored().get(number, {}), key=FILES.index)
        return {name: f"/clapp/trials/{number}/{name}" for name in names}

    def read(self, number: int, name: str) -> bytes:
        """The content of a file, which is made if it does not exist.

        Raises:
            UserError: the trial has no such file, and it cannot be made.
        """
        folder = trial_folder(self._folder, number)
        if folder.is_dir():
            with self._making:
                _make(folder, name)
            return (folder / name).read_bytes()
        artifact = self._stored().get(number, {}).get(name)
        try:
            if artifact is not None:
                return self._store.open_reader(artifact).read()
        except (OSError, ArtifactNotFound) as error:
            raise UserError(f"trial {number}: {name}: {one_line(error)}") from error
        raise UserError(
            f"trial {number}: its files are on the machine that trained it; run searches with "
            "--artifacts to share those of the front"
        )

    def _stored(self) -> dict[int, dict[str, str]]:
        """Trial -> file name -> artifact."""
        found: dict[int, dict[str, str]] = {}
        for meta in get_all_artifact_meta(self._study):
            match = re.fullmatch(r"trial-(\d{1,9})-([a-z.]+)", meta.filename)
            if match and match[2] in FILES:
                found.setdefault(int(match[1]), {})[match[2]] = meta.artifact_id
        return found

    def beside(self, app: "App") -> "App":
        """Wrap the WSGI application `app` so that it also serves /clapp/trials/NUMBER/NAME."""

        def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            match = _ADDRESS.fullmatch(environ.get("PATH_INFO", ""))
            if match is None or match[2] not in FILES:
                return app(environ, start_response)
            try:
                content, status = self.read(int(match[1]), match[2]), "200 OK"
                kind = mimetypes.guess_type(match[2])[0] or "application/octet-stream"
            except (UserError, OSError, ValueError, RuntimeError) as error:
                logger.warning(one_line(error))
                content, status, kind = one_line(error).encode(), "404 Not Found", "text/plain"
            headers = [("Content-Type", kind), ("Content-Length", str(len(content)))]
            start_response(status, headers)
            return [content]

        return serve

    def share_front(self) -> None:
        """Upload the files of the front's models to the store, for dashboards on other machines."""
        stored = self._stored()
        for one in front_of(self._study):
            folder = trial_folder(self._folder, one.trial)
            if not folder.is_dir() or one.trial in stored:
                continue
            try:
                for name in FILES[:-1]:
                    self._share(folder, one.trial, name)
            except (UserError, OSError) as error:
                reason = one_line(error)
                logger.warning(f"trial {one.trial}: its files could not be stored: {reason}")

    def _share(self, folder: Path, number: int, name: str) -> None:
        _make(folder, name)
        named = folder / f"trial-{number}-{name}"  # a store takes the name of the uploaded file
        named.hardlink_to(folder / name)
        try:
            upload_artifact(
                artifact_store=self._store,
                file_path=str(named),
                study_or_trial=self._study,
                storage=storage_of(self._study),
            )
        finally:
            named.unlink()


def _make(folder: Path, name: str) -> None:
    from clapp.training.folder import draw_pictures, load_trained

    if (folder / name).is_file():
        return
    if name in PICTURES:
        draw_pictures(folder)
    elif name == "model.onnx":
        from clapp.export.onnx import write_onnx

        model, _ = load_trained(folder)
        with atomic_path(folder / name) as path:
            write_onnx(model, path, {})
    if not (folder / name).is_file():
        raise UserError(f"{folder / name}: no such file")
