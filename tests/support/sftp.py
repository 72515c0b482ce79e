"""An SFTP server on this machine, as tests need it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Sftp(NamedTuple):
    """A running server: the URL of a folder, and what cuts all connections."""

    url: str
    cut: Callable[[], None]


def ssh_folder(home: Path, port: int, host_key: Any, user_key: Any) -> None:
    """Write what a user's ~/.ssh has after the first visit to the server."""
    folder = home / ".ssh"
    folder.mkdir(parents=True)
    user_key.write_private_key(folder / "id_ed25519")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")


@contextmanager
def sftp_server(home: Path, served: Path) -> Iterator[Sftp]:
    """Serve the folder `served` to the user with this home, from a thread."""
    asyncssh = pytest.importorskip("asyncssh")
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    (served / "mine").mkdir(parents=True)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    connections: list[Any] = []
    thread.start()

    async def listen() -> Any:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            acceptor=connections.append,
            server_host_keys=[host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(user_key.export_public_key().decode()),
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=bytes(served)),
        )

    async def cut() -> None:
        while connections:
            connection = connections.pop()
            connection.abort()
            await connection.wait_closed()

    async def close() -> None:
        await cut()
        server.close()
        await server.wait_closed()

    try:
        server = asyncio.run_coroutine_threadsafe(listen(), loop).result(30)
        ssh_folder(home, server.get_port(), host_key, user_key)
        url = f"sftp://tester@127.0.0.1:{server.get_port()}/mine"
        yield Sftp(url, lambda: asyncio.run_coroutine_threadsafe(cut(), loop).result(30))
        asyncio.run_coroutine_threadsafe(close(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
