"""The artifact store with the trials' pictures for the dashboard: a folder, or an S3 bucket."""

import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from clapp.errors import UserError, one_line

SCHEME = "s3://"


class ArtifactStore(Protocol):
    """Optuna's interface of artifact stores."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content of a file."""
        ...

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store a file."""
        ...

    def remove(self, artifact_id: str) -> None:
        """Remove a file."""
        ...


def open_artifacts(url: str | None, folder: Path) -> ArtifactStore:
    """Open the artifact store of a study; several studies may share one, as ids are unique.

    Args:
        url: a folder, `s3://bucket` or `s3://bucket/prefix`; None: `artifacts` in `folder`.
            boto3 finds credentials, region and endpoint of a bucket, for example in
            AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.
        folder: the study's results folder.

    Raises:
        UserError: the URL names no store, the folder cannot be made, or boto3 is missing.
    """
    if url is not None and url.startswith(SCHEME):
        bucket, _, prefix = url.removeprefix(SCHEME).strip("/").partition("/")
        if not bucket:
            raise UserError(f"--artifacts {url}: expected is s3://bucket or s3://bucket/prefix")
        return _Bucket(url, bucket, f"{prefix}/" if prefix else "")
    if url is not None and "://" in url:
        raise UserError(f"--artifacts {url}: expected is a folder or s3://bucket/prefix")
    from optuna.artifacts import FileSystemArtifactStore

    place = folder / "artifacts" if url is None else Path(url)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{place}: artifacts cannot be kept there: {error.strerror}") from error
    return FileSystemArtifactStore(str(place))


def check_artifacts(url: str | None, folder: Path) -> None:
    """Check now that artifacts can be stored, so that no error appears after the first training.

    Raises:
        UserError: they cannot.
    """
    store = open_artifacts(url, folder)
    probe = f".writable-{secrets.token_hex(4)}"  # unique: others may test too
    try:
        store.write(probe, BytesIO())
        store.remove(probe)
    except OSError as error:
        where = url or folder / "artifacts"
        raise UserError(f"--artifacts {where}: cannot be written to: {one_line(error)}") from error


def share_front(study: str, folder: str, storage: str, artifacts: str) -> None:
    """Upload the files of the models on a study's front to its artifact store."""
    from clapp.study.dashboard.trial_files import TrialFiles
    from clapp.study.plan.existing import load_existing
    from clapp.system.console import log_to_stderr
    from clapp.system.process import prepare_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C has already ended the search
    log_to_stderr()
    prepare_process(threads=1)
    place = Path(folder)
    loaded = load_existing(study, place.parent, storage)
    TrialFiles(loaded, place, open_artifacts(artifacts, place)).share_front()


class _Bucket:
    """Optuna's store in a bucket, with a prefix; failures are OSErrors, as with a folder."""

    def __init__(self, url: str, bucket: str, prefix: str) -> None:
        try:
            import boto3  # type: ignore[import-untyped]
        except ImportError as error:
            raise UserError(f"--artifacts {url}: needs boto3: pip install 'clapp[s3]'") from error
        from optuna.artifacts import Boto3ArtifactStore

        self._prefix = prefix
        with _as_os_error():
            self._store = Boto3ArtifactStore(bucket, boto3.client("s3"))

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The artifact's bytes.

        Raises:
            ArtifactNotFound: there is none of this name.
        """
        with _as_os_error():
            return self._store.open_reader(self._prefix + artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store an artifact."""
        with _as_os_error():
            self._store.write(self._prefix + artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact."""
        with _as_os_error():
            self._store.remove(self._prefix + artifact_id)


@contextmanager
def _as_os_error() -> Iterator[None]:
    from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise OSError(one_line(error)) from error
