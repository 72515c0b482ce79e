"""Storages by their URLs: open one, say in one line why it cannot be used, advise which suits how many workers.

SQLAlchemy parses and opens. It is ours that a database whose cable was cut is given up after a minute, that messages
are one line without passwords, and that an SQLite file on a network file system is warned of.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import optuna
import psutil
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from pneumosearch._utils.atomic import writable_folder
from pneumosearch.errors import StoreError, printable
from pneumosearch.storage.retry import ConnectionLost, RetryingStorage, call_with_retry, first_line

if TYPE_CHECKING:
    from pneumosearch.storage.grpc_client import ProxyStorage

#: For how long calls are retried while the database is away, s.
PATIENCE: Final = 300.0

#: The same for the lock of another process on an SQLite file, s.
SQLITE_PATIENCE: Final = 60.0

#: Connections that a process holds at most.
MAX_CONNECTIONS: Final = 2

#: Most workers that each kind of storage is advised for.
SQLITE_WORKERS: Final = 16  # with more, fewer trials a second; `scripts/bench storages`, figures in results/storages.md
DATABASE_WORKERS: Final = 48  # at two connections each, PostgreSQL's default of 100 is reached

#: What the storage raises when it cannot be read or written.
STORAGE_ERRORS: Final = (SQLAlchemyError, optuna.exceptions.StorageInternalError, ConnectionLost)

_EXAMPLE: Final = "sqlite:///results/pneumosearch.db"

# The driver of each kind of database where the URL names none.
_DRIVERS: Final = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_EXTRAS: Final = {"postgresql+psycopg": "postgres", "mysql+pymysql": "mysql"}
# What the drivers call it: a server that does not answer is given up after a minute, even one whose cable was cut.
_LIBPQ: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # ms
    "application_name": "pneumosearch",
}
_MYSQL: Final[dict[str, Any]] = {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60}
_CONNECT_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "postgresql+psycopg": _LIBPQ,
    "postgresql+psycopg2": _LIBPQ,
    "mysql+pymysql": _MYSQL,
    "mysql+mysqldb": _MYSQL,
}
_SECRETS: Final = ("password", "passwd", "sslpassword")  # in the query of a URL
_NETWORK_FILE_SYSTEMS: Final = re.compile(r"nfs|cifs|smb|lustre|fuse(\.|$)|9p|gpfs|beegfs|ceph|afs|glusterfs")
_SETTING_UP: Final = 5  # attempts at the tables of a new database, which others may be making as well


def open_storage(
    url: str, *, must_exist: bool = False, patience: float = PATIENCE, opening_patience: float | None = None
) -> "RetryingStorage | ProxyStorage":
    """Open the storage at `url`, and make its tables in a new database.

    Args:
        url: An SQLAlchemy URL; PostgreSQL and MySQL without a driver get psycopg and PyMySQL. Or a server of
            pneumosearch, as grpc://HOST:PORT.
        must_exist: Refuse an SQLite file that is not there yet, for commands that only read.
        patience: For how long calls wait for a database that has gone away, s; with SQLite, for a lock.
        opening_patience: The same for the first connection; as long where not given.

    Raises:
        StoreError: The URL is malformed, its driver is missing, or the database cannot be opened or written.
    """
    parsed = parsed_url(url)
    first = patience if opening_patience is None else opening_patience
    if parsed.drivername == "grpc":
        return _open_proxy(parsed, patience, first)
    if parsed.get_backend_name() == "sqlite":
        _check_sqlite(url, parsed.database, must_exist)
        patience = first = min(patience, SQLITE_PATIENCE)

    def attempt() -> RetryingStorage:
        return RetryingStorage(
            parsed.render_as_string(hide_password=False),
            patience=patience,
            name=safe_url(url),
            engine_kwargs=engine_arguments(parsed),
            # Who only reads need not wait for Alembic, which compares versions of tables; writers do.
            skip_compatibility_check=must_exist,
        )

    with explained(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return call_with_retry(lambda: _set_up(attempt), first, safe_url(url))


def _open_proxy(url: URL, patience: float, first: float) -> "ProxyStorage":
    from pneumosearch.storage.grpc_client import ProxyStorage, address  # gRPC, which no other storage needs

    storage = ProxyStorage(*address(url), patience=patience, name=safe_url(str(url)))
    storage.wait_server_ready(first)
    return storage


def parsed_url(url: str) -> URL:
    """Return the parts of a storage URL, with our driver where it names none; `StoreError` where it is no URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # the latter of a port that is no number
        raise StoreError(f"'{safe_url(url)}' is no storage URL; wanted something like {_EXAMPLE}") from error
    return parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, whatever its name. Raises `StoreError` where the name is not UTF-8."""
    try:
        return URL.create("sqlite", database=str(path)).render_as_string()
    except UnicodeEncodeError as error:
        raise StoreError(f"{printable(str(path))}: not a UTF-8 name; give another --results or --storage") from error


def sqlite_path(url: str) -> Path | None:
    """Return the SQLite file that `url` names; None where it is of another kind of database. Raises `StoreError`."""
    parsed = parsed_url(url)
    return Path(parsed.database) if is_sqlite(url) and parsed.database else None


def is_sqlite(url: str) -> bool:
    """Tell whether `url` is of an SQLite file."""
    return parsed_url(url).get_backend_name() == "sqlite"


def absolute_url(url: str) -> str:
    """Return a URL that names the same storage from any folder. Raises `StoreError` where it is none."""
    parsed = parsed_url(url)
    if not is_sqlite(url) or parsed.database is None:
        return url
    return parsed.set(database=str(Path(parsed.database).resolve())).render_as_string(hide_password=False)


def engine_arguments(url: URL) -> dict[str, Any]:
    """Return what SQLAlchemy is to know beside the URL, whose own arguments win."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": SQLITE_PATIENCE}}
    arguments = _CONNECT_ARGUMENTS.get(url.drivername, {})
    return {
        "pool_size": 1,
        "max_overflow": MAX_CONNECTIONS - 1,
        "pool_pre_ping": True,
        "hide_parameters": True,
        "connect_args": {key: value for key, value in arguments.items() if key not in url.query},
    }


def _set_up(attempt: Callable[[], RetryingStorage]) -> RetryingStorage:
    """Open a storage whose tables another process may be making at this moment."""
    for _ in range(_SETTING_UP - 1):
        try:
            return attempt()
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
    return attempt()


def _check_sqlite(url: str, database: str | None, must_exist: bool) -> None:
    if database is None or database == ":memory:":
        raise StoreError(f"{url}: a storage in memory would be lost; wanted sqlite:///FILE.db")
    path = Path(database)
    if must_exist and not path.exists():
        raise StoreError(f"{path}: no such storage yet; run 'pneumosearch study' first, or give --storage")
    if not path.exists() and not writable_folder(path.parent):
        raise StoreError(f"{path.parent}: cannot be written; give another folder with --storage and --results")


def safe_url(url: str) -> str:
    """Return a storage URL without its password, for messages."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return re.sub(r":[^/@]*@", ":***@", url)
    hidden = {key: "***" for key in parsed.query if key in _SECRETS}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what the database layer raises inside into one line about the storage at `url`."""
    try:
        yield
    except (ModuleNotFoundError, ImportError) as error:
        raise StoreError(f"{safe_url(url)}: the database driver is not installed ({error}){_remedy(url)}") from error
    except NoSuchModuleError as error:
        raise StoreError(
            f"{safe_url(url)}: unknown kind of database; wanted sqlite, postgresql, mysql or grpc"
        ) from error
    except (OperationalError, ConnectionLost) as error:
        reason = error.orig if isinstance(error, OperationalError) and error.orig else error
        raise StoreError(f"{safe_url(url)}: the storage cannot be used ({first_line(reason)})") from error
    except (*STORAGE_ERRORS, RuntimeError) as error:
        cause = error.__cause__ or error
        cause = cause.orig if isinstance(cause, DBAPIError) and cause.orig else cause
        raise StoreError(f"{safe_url(url)}: not a usable Optuna storage ({first_line(cause)})") from error


def _remedy(url: str) -> str:
    """Name the extra that brings the driver of `url`, where there is one."""
    extra = _EXTRAS.get(parsed_url(url).drivername)
    return f"; pip install 'pneumosearch[{extra}]'" if extra else ""


def advice(url: str, n_workers: int) -> str | None:
    """Return advice for a user who chose the storage at `url` for that many workers; None where it suits them."""
    parsed = parsed_url(url)
    backend, database = parsed.get_backend_name(), parsed.database
    if backend == "sqlite" and database and n_workers > 1:
        return _sqlite_advice(Path(database), n_workers)
    if backend in ("postgresql", "mysql") and n_workers > DATABASE_WORKERS:
        return (
            f"{n_workers} workers hold up to {MAX_CONNECTIONS * n_workers} connections to {safe_url(url)}: "
            "see that its max_connections allows for them"
        )
    return None


def _sqlite_advice(path: Path, n_workers: int) -> str | None:
    better = "--storage postgresql://USER:PASSWORD@HOST/DATABASE"
    kind = network_file_system(path)
    if kind:
        return f"{path} is on a network file system ({kind}), where SQLite's locks fail: for several workers, {better}"
    if n_workers > SQLITE_WORKERS:
        return f"one SQLite file is slow for {n_workers} workers (good for up to {SQLITE_WORKERS}): use {better}"
    return None


def network_file_system(path: Path) -> str | None:
    """Return the kind of the network file system that `path` is on; None on a disk of this machine."""
    folders = [str(folder) for folder in (path.resolve(), *path.resolve().parents)]
    mounted = {disk.mountpoint: disk.fstype for disk in psutil.disk_partitions(all=True)}
    kind = next((mounted[folder] for folder in folders if folder in mounted), "")
    return kind if _NETWORK_FILE_SYSTEMS.match(kind) else None
