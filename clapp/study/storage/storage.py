"""The storage of trials: a journal in the results folder by default, or any SQLAlchemy URL."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from clapp.errors import UserError
from clapp.study.storage.client import connect
from clapp.study.storage.journal import open_journal
from clapp.study.storage.place import FILES, JOURNAL, is_local, study_file
from clapp.study.storage.redaction import redact, without_secrets

if TYPE_CHECKING:
    from optuna import Study

GO_ON = "what was trained before is kept, and the same command goes on from there"
BUSY_SECONDS = 60
HEARTBEAT_SECONDS = 15
GRACE_SECONDS = 60
GRPC, GRPC_PORT = "grpc", 13000
CONSTRAINTS = "constraints"
"""System attribute in which Optuna and its dashboard look for the violations of a trial's limits.

It is private to Optuna, as is `Study._storage` below; CLAPP uses no other private names.
tests/test_optuna.py fails if a new version changes one of them. `Trial.set_constraint` writes a
form of it that the dashboard cannot read, one transaction a limit, and needs a trial that Optuna
itself began.
"""
_GONE = "Record does not exist"  # Optuna's message about missing studies and trials
_VERSION = "alembic_version"
_CREATION = 0xC1A99  # any number that no other program locks


def file_url(kind: str, path: Path) -> str:
    """The URL of a file of JOURNAL or SQLITE, whatever characters its path has.

    Raises:
        UserError: the path is not text in the encoding of file names.
    """
    try:
        return URL.create(kind, database=str(path.resolve())).render_as_string()
    except UnicodeEncodeError as error:  # the name is not valid in the encoding of file names
        raise UserError(
            f"{path}: a study cannot lie there: the name is not text in the encoding "
            f"{sys.getfilesystemencoding()}; set LC_ALL=C.UTF-8, or choose another name"
        ) from error


def default_url(folder: Path) -> str:
    """The study's file in its results folder; a journal, if there is none yet."""
    path = study_file(folder) or folder / FILES[JOURNAL]
    return file_url(next(kind for kind, name in FILES.items() if name == path.name), path)


def file_of(url: str) -> Path | None:
    """The file behind a URL; None: it is a server's, or in memory.

    Raises:
        UserError: not a URL.
    """
    if not is_local(url):
        return None
    with storage_errors(url):
        database = make_url(url).database
    return Path(database) if database else None


def open_storage(url: str, *, create: bool = True, connections: int = 1) -> BaseStorage:
    """Open the storage at `url`, set up for several processes that write at once.

    Args:
        url: a database's, or `grpc://host:port` of `clapp serve-storage`.
        create: create missing tables, and set the mode of a new file. Only a search does this;
            commands that read change nothing in a database.
        connections: number of connections to keep open to a database server.

    Raises:
        UserError: malformed, unreachable, or not writable; passwords are not repeated.
    """
    with storage_errors(url):
        parsed = make_url(url)
        if parsed.drivername == GRPC:
            return connect(parsed.host or "localhost", parsed.port or GRPC_PORT)
        kind = parsed.get_backend_name()
        if kind in FILES:
            return _open_file(kind, parsed, create)
        return _open_server(parsed, create, connections)


def _open(url: URL, create: bool, engine: dict[str, Any]) -> RDBStorage:
    if not create:
        _check_tables(url)
    return RDBStorage(
        url.render_as_string(hide_password=False),
        engine,
        skip_compatibility_check=not create,
        skip_table_creation=not create,
    )


def _check_tables(url: URL) -> None:
    """Check that Optuna's tables exist, because Optuna would write its version into any database.

    Optuna fills the table with its version last, so tables in creation count as missing.
    """
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        there = sqlalchemy.inspect(connection).has_table(_VERSION)
        if there and connection.exec_driver_sql(f"SELECT * FROM {_VERSION}").first():  # noqa: S608
            return
    raise UserError(
        f"storage {redact(str(url))}: it is no database of Optuna, or it has no study yet"
    )


def _open_server(url: URL, create: bool, connections: int) -> BaseStorage:
    # A separate thread writes signs of life, while the main thread may be writing too.
    engine = {"pool_size": connections, "max_overflow": 2, "pool_pre_ping": True}
    alone: AbstractContextManager[None] = nullcontext()
    if create and url.get_backend_name() == "postgresql":
        alone = _alone(url)
    with alone:
        return optuna.storages.get_storage(_open(url, create, engine))


@contextmanager
def _alone(url: URL) -> Iterator[None]:
    """Hold a PostgreSQL lock, since drivers that start together would all create the tables."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CREATION})")
        yield


def _open_file(kind: str, url: URL, create: bool) -> BaseStorage:
    if url.database in (None, "", ":memory:"):
        raise UserError(f"--storage {url}: a database in memory cannot be shared; name a file")
    path = Path(str(url.database))
    if not create and not path.is_file():
        raise UserError(f"--storage {url}: there is no such file")
    if not path.parent.is_dir():
        raise UserError(f"--storage {url}: the folder {path.parent} does not exist")
    return open_journal(path) if kind == JOURNAL else _open_sqlite(url, path, create)


def _open_sqlite(url: URL, path: Path, create: bool) -> BaseStorage:
    engine: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}}
    if not create:
        storage = _open(url, create, engine)
    else:
        # Processes that start together on a new file would all create the tables; and if two turn
        # on the write-ahead log at once, SQLite refuses one of them without waiting.
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=BUSY_SECONDS):
            _log_ahead(url, engine)
            storage = _open(url, create, engine)
    _lock_before_reading(storage)
    return optuna.storages.get_storage(storage)


def _log_ahead(url: URL, kwargs: dict[str, Any]) -> None:
    """Turn on the write-ahead log of a file permanently, so that readers do not wait for
    writers."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, **kwargs)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def _lock_before_reading(storage: RDBStorage) -> None:
    """Take the write lock at the start of every transaction.

    By default SQLite takes it at the first write. Data read before may then be out of date, and two
    workers would run the same enqueued trial. This is attached after the tables exist, because it
    would hang their creation.
    """

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        # A trial makes several commits, and each would wait for the disk. With this setting a
        # killed process loses nothing, and a power failure loses only the last commits.
        connection.execute("PRAGMA synchronous=NORMAL")

    def begun(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sqlalchemy.event.listen(storage.engine, "connect", connected)
    sqlalchemy.event.listen(storage.engine, "begin", begun)
    storage.engine.dispose()


def storage_of(study: "Study") -> BaseStorage:
    """The storage behind a study."""
    return study._storage


def trial_id(study: "Study", number: int) -> int:
    """The id of a trial in the storage."""
    storage = storage_of(study)
    owner = storage.get_study_id_from_name(study.study_name)
    return storage.get_trial_id_from_study_id_trial_number(owner, number)


def refusals() -> tuple[type[Exception], ...]:
    """The exceptions that a storage raises when it refuses a read or write."""
    grpc = sys.modules.get("grpc")
    return (SQLAlchemyError, StorageInternalError, *((grpc.RpcError,) if grpc else ()))


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn exceptions of a storage into a UserError of one line without passwords."""
    shown = redact(url)
    try:
        yield
    except (ImportError, NoSuchModuleError) as error:
        reason = without_secrets(str(error.__cause__ or error), url)
        raise UserError(f"--storage {shown}: its driver is not installed: {reason}") from error
    except ArgumentError as error:
        raise UserError(
            f"--storage {shown}: not a database URL; expected is one such as "
            "sqlite:///study.db or postgresql://user@host/name"
        ) from error
    except ValueError as error:  # of SQLAlchemy, for example for a port that is no number
        reason = _reason(error, url)
        raise UserError(f"--storage {shown}: not a database URL: {reason}") from error
    except Exception as error:
        if not isinstance(error, (OSError, *refusals())):
            raise
        raise UserError(f"storage {shown}: cannot be used: {_reason(error, url)}") from error


@contextmanager
def storage_lost(url: str) -> Iterator[None]:
    """Turn failures of a storage during a run into a UserError of one line without passwords."""
    try:
        yield
    except Exception as error:
        reason = _why_lost(error, url)
        if reason is None:
            raise
        raise UserError(
            f"storage {redact(url)}: does not work any more: {reason}; {GO_ON} once it does"
        ) from error


def _why_lost(error: Exception, url: str) -> str | None:
    """The reason, if `error` comes from the storage, else None."""
    if isinstance(
        error, UnboundLocalError
    ):  # raised by a bug in Optuna while it handles another error
        return (
            _why_lost(error.__context__, url) if isinstance(error.__context__, Exception) else None
        )
    if isinstance(error, KeyError) and _GONE in str(error):
        return "somebody deleted the study or set it aside"
    return _reason(error, url) if isinstance(error, refusals()) else None


def _reason(error: Exception, url: str) -> str:
    cause = error.__cause__ or error
    text = without_secrets(str(getattr(cause, "orig", None) or cause), url)
    return (text.splitlines() or [type(cause).__name__])[0]
