"""The lock of a study: one process at a time proposes and claims its trials, on however many machines they run.

Locking is left to filelock, PostgreSQL and MySQL; Optuna has no lock that spans two calls. This module picks the right
one for a storage and bounds the wait.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from pneumosearch.errors import StoreError
from pneumosearch.storage.retry import ConnectionLost, RetryingStorage

#: Seconds to wait for others, each of which needs well under a second.
PATIENCE: Final = 300

_RELEASE: Final = {"postgresql": "SELECT pg_advisory_unlock_all()", "mysql": "DO RELEASE_ALL_LOCKS()"}


@contextmanager
def study_lock(storage: Any, name: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a study: a file beside an SQLite database, a database's advisory lock, or the gRPC server's.

    Each is released when its process or its connection ends.

    Args:
        storage: An Optuna storage over an SQLAlchemy engine, or one with a method `study_lock(name, patience)`.
        name: Of the study.
        patience: Seconds to wait for it.

    Raises:
        StoreError: Another process holds it longer than that.
    """
    if hasattr(storage, "study_lock"):
        lock = storage.study_lock(name, patience)
    elif storage.engine.dialect.name == "sqlite":
        lock = _file_lock(storage.engine, patience)
    else:
        lock = _database_lock(storage, name, patience)
    with lock:
        yield


@contextmanager
def _file_lock(engine: Engine, patience: float) -> Iterator[None]:
    path = f"{engine.url.database}.lock"
    try:
        with FileLock(path, timeout=patience):
            yield
    except Timeout as error:
        raise StoreError(f"{path}: another process holds it since {patience:.0f} s") from error


@contextmanager
def _database_lock(storage: RetryingStorage, name: str, patience: float) -> Iterator[None]:
    """Hold an advisory lock, which ends with its connection; retried while the database restarts."""
    connection = storage.with_retry(lambda: _acquired(storage.engine, name, patience))
    try:
        yield
    finally:
        with connection, suppress(ConnectionLost, SQLAlchemyError):  # the lock is lost with its connection
            connection.execute(text(_RELEASE[storage.engine.dialect.name]))


def _acquired(engine: Engine, name: str, patience: float) -> Connection:
    """Return a connection that holds the lock."""
    number = zlib.crc32(f"pneumosearch {name}".encode())
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SET lock_timeout = {int(patience * 1000)}"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": number})
        else:
            values = {"key": f"pneumosearch-{number:08x}", "seconds": int(patience)}
            if connection.execute(text("SELECT GET_LOCK(:key, :seconds)"), values).scalar() != 1:
                raise StoreError(f"study '{name}': another process holds its lock since {patience:.0f} s")
    except BaseException:
        connection.close()
        raise
    return connection
