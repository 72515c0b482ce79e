"""One process at a time proposes and claims the trials of a study, on however many machines they run."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from filelock import FileLock, Timeout
from sqlalchemy import Engine, text

from pneumosearch.errors import StoreError

#: Seconds to wait for others, each of which needs well under one.
PATIENCE: Final = 300


@contextmanager
def study_lock(storage: Any, name: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a study: a file beside an SQLite database, a lock of the database's own, or the proxy's.

    Each is released by the system when its process or its connection ends.

    Args:
        storage: An Optuna storage over an SQLAlchemy engine, or one with a context manager `claim(name)`.
        name: Of the study.
        patience: Seconds to wait for it.

    Raises:
        StoreError: Another process holds it longer than that.
    """
    if hasattr(storage, "claim"):
        lock = storage.claim(name)
    elif storage.engine.dialect.name == "sqlite":
        lock = _file_lock(storage.engine, patience)
    else:
        lock = _database_lock(storage.engine, name, patience)
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
def _database_lock(engine: Engine, name: str, patience: float) -> Iterator[None]:
    """Hold a lock of PostgreSQL or MySQL, which ends with its connection."""
    key = f"pneumosearch {name}"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "postgresql":
            number = zlib.crc32(key.encode())
            connection.execute(text(f"SET lock_timeout = {int(patience * 1000)}"))
            acquire, release = "SELECT pg_advisory_lock(:key)", "SELECT pg_advisory_unlock(:key)"
            values: dict[str, Any] = {"key": number}
        else:
            acquire, release = "SELECT GET_LOCK(:key, :seconds)", "SELECT RELEASE_LOCK(:key)"
            values = {"key": f"{zlib.crc32(key.encode()):08x}-pneumosearch", "seconds": int(patience)}
        if connection.execute(text(acquire), values).scalar() == 0:
            raise StoreError(f"study '{name}': another process holds its lock since {patience:.0f} s")
        try:
            yield
        finally:
            connection.execute(text(release), values)
