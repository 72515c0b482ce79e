"""A MariaDB server of the system's packages, which speaks MySQL's protocol, on a free local port; gone afterwards."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.postgres import PASSWORD, QUOTED, USER, Mode, free_port

_SECONDS: Final = 60
_SETUP: Final = f"""
CREATE DATABASE IF NOT EXISTS studies;
CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON *.* TO '{USER}'@'%';
"""


class NoMariadb(Exception):
    """There are no programs of MariaDB here."""


class MariadbServer:
    """A server that can be started and stopped.

    Args:
        folder: For its data, log and socket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "setup.sql").write_text(_SETUP)
        command = ["mariadb-install-db", *self._options(), "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)

    def url(self, database: str = "studies") -> str:
        """Return the storage URL of a database."""
        return f"mysql://{USER}:{QUOTED}@127.0.0.1:{self.port}/{database}"

    def new_database(self, name: str) -> str:
        """Make an empty database, and return its URL."""
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Run one statement."""
        import pymysql

        account = {"user": USER, "password": PASSWORD}
        with pymysql.connect(host="127.0.0.1", port=self.port, **account) as connection:
            connection.cursor().execute(statement)

    def start(self) -> None:
        """Start it and wait until it answers."""
        where = [f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.folder}/socket"]
        setup = f"--init-file={self.folder}/setup.sql"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("mariadbd"), *self._options(), *where, setup], stdout=log, stderr=log
            )
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mariadbd: {(self.folder / 'log').read_text()}")
            time.sleep(0.1)

    def stop(self, mode: Mode = "fast") -> None:
        """Stop it and wait until it has gone."""
        if self._process is not None:
            (self._process.kill if mode == "immediate" else self._process.terminate)()
            self._process.wait(_SECONDS)

    def _options(self) -> list[str]:
        own = [f"--datadir={self.folder}/data", f"--pid-file={self.folder}/pid"]
        return ["--no-defaults", *own, *(["--user=root"] if os.geteuid() == 0 else [])]

    def _answers(self) -> bool:
        import pymysql

        try:
            pymysql.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, database="studies").close()
        except pymysql.err.OperationalError:
            return False
        return True


@contextmanager
def mariadb_server() -> Iterator[MariadbServer]:
    """Give a running server with nothing in it; it and its data are gone after. Raises `NoMariadb` where it cannot."""
    _program("mariadbd")
    folder = Path(tempfile.mkdtemp(prefix="mariadb-"))
    try:
        server = MariadbServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None or shutil.which("mariadb-install-db") is None:
        raise NoMariadb("MariaDB is not installed (on Debian: apt-get install mariadb-server-core mariadb-client-core)")
    return found
