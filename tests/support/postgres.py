"""A PostgreSQL server of the system's packages on a free local port, for tests and measurements; gone afterwards."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

USER: Final = "searcher"
PASSWORD: Final = "p@ss:word/{1}"  # noqa: S105  as awkward as a password may be, quoted in URLs
QUOTED: Final = "p%40ss%3Aword%2F%7B1%7D"
_SERVER_USER: Final = "postgres"  # of Debian's package; the server does not run as root
_SECONDS: Final = 60

_FIRST_PORT: Final = 10_000 + os.getpid() % 200 * 100
_ports: Final = iter(range(_FIRST_PORT, _FIRST_PORT + 100))

Mode = Literal["fast", "immediate"]  # tell clients and write all down; or as in a crash


class NoPostgres(Exception):
    """There are no programs of PostgreSQL here, or nobody who may run them; says which."""


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Args:
        programs: Folder of PostgreSQL's programs.
        folder: Its data, log and socket.
        port: On 127.0.0.1.
    """

    programs: Path
    folder: Path
    port: int

    def url(self, database: str = "postgres") -> str:
        """Return the storage URL of a database."""
        return f"postgresql://{USER}:{QUOTED}@127.0.0.1:{self.port}/{database}"

    def new_database(self, name: str) -> str:
        """Make an empty database, and return its URL."""
        self.query(f"CREATE DATABASE {name}")
        return self.url(name)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement as the owner of everything, by a connection of its own."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True, application_name="watcher") as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self, mode: Mode = "fast") -> None:
        """Stop it and wait until it has gone."""
        self._control("stop", "-m", mode)

    def _control(self, *arguments: str) -> None:
        _run_as_server([str(self.programs / "pg_ctl"), "-D", str(self.folder / "data"), "-w", *arguments])


@contextmanager
def postgres_server(*, durable: bool = True) -> Iterator[PostgresServer]:
    """Give a running server with nothing in it; it and its data are gone after.

    Args:
        durable: Whether it waits for the disk, as a server does; tests need not.

    Raises:
        NoPostgres: There is none to start.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam(_SERVER_USER).pw_uid, -1)
        server = PostgresServer(programs, folder, free_port())
        _make(server, durable)
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs, which Debian keeps off the PATH."""
    found = shutil.which("postgres")
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if not found and not candidates:
        raise NoPostgres("PostgreSQL is not installed (on Debian: apt-get install postgresql)")
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(_SERVER_USER)
        except KeyError:
            raise NoPostgres(f"PostgreSQL does not run as root, and there is no user '{_SERVER_USER}'") from None
    return (Path(found).resolve() if found else candidates[-1]).parent


def _make(server: PostgresServer, durable: bool) -> None:
    secret = server.folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)  # read by the server's user, in a folder that only that user can enter
    options = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "--no-sync"]
    _run_as_server([str(server.programs / "initdb"), "-D", str(server.folder / "data"), *options])
    if not durable:
        with (server.folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write("\nfsync = off\n")


def _run_as_server(command: list[str]) -> None:
    """Run a program of PostgreSQL, as another user where we are root. Raises `RuntimeError` with what it said."""
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        other = {"user": _SERVER_USER, "group": pwd.getpwnam(_SERVER_USER).pw_gid, "extra_groups": []}
    # Its output goes to a file: a server that it starts would keep a pipe open.
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False, timeout=_SECONDS, **other
        )
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[0]}: {said.read().strip()}")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that nobody gets before it is used.

    Port 0 would give one that any connection may take meanwhile. These are below the range that systems give away, each
    is returned once, and each process has a hundred of its own.
    """
    for port in _ports:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("this process has used all of its ports")
