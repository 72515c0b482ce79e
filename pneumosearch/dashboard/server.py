"""optuna-dashboard over the store, with the published table and the baseline as each study's note, behind a guard."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Final, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard
from optuna.storages import BaseStorage, get_storage
from optuna_dashboard import save_note

from pneumosearch.dashboard.auth import Guard
from pneumosearch.errors import StoreError
from pneumosearch.report.tables import markdown
from pneumosearch.storage.auth import is_loopback, name_in_url
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import STORAGE_ERRORS

MAX_VISITS: Final = 32  # requests at a time; further ones wait
_PATIENCE: Final = 30.0  # seconds for a visitor to say or take something


class Door(NamedTuple):
    """Where the dashboard listens, and whom it lets in.

    Args:
        host: Address.
        port: Port.
        token: What visitors must show; None only where no other machine can reach it.
        certificate: PEM file for TLS, with its chain.
        key: PEM file of its key.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def url(self) -> str:
        """What visitors open, but for the token."""
        return f"http{'s' if self.certificate else ''}://{name_in_url(self.host)}:{self.port}/"


def write_note(store: Store, name: str) -> None:
    """Write the report of a study into its note, which plain optuna-dashboard shows as well."""
    save_note(store.load_study(name), markdown(store.record(name), top=10))


def serve(store: Store, door: Door, opened: Callable[[], None] = lambda: None) -> None:
    """Serve the dashboard until interrupted.

    Args:
        store: What to show.
        door: Where, and to whom.
        opened: Called when the dashboard can be visited.

    Raises:
        StoreError: A token is missing, the port is taken or not allowed, or the certificate cannot be used.
    """
    if door.token is None and not is_loopback(door.host):
        raise StoreError(f"{door.host}: other machines can reach it, so that a token is needed; none was given")
    app = Guard(
        pages(store),
        door.token,
        local=is_loopback(door.host),
        secure=door.certificate is not None,
    )
    with _server(app, door) as server:
        for name in store.names():
            write_note(store, name)
        opened()
        server.serve_forever()


def pages(store: Store) -> Any:
    """Return the dashboard as a WSGI application, which reads an ended trial from the database once.

    It begins to read at once, so that the first visitor need not wait for it.
    """
    storage = get_storage(store.storage)
    threading.Thread(target=_read_ahead, args=(storage,), daemon=True).start()
    return optuna_dashboard.wsgi(storage, artifact_store=store.artifacts)


def _read_ahead(storage: BaseStorage) -> None:
    with suppress(*STORAGE_ERRORS, StoreError):  # a visitor's own reading meets them again, and tells
        for study in storage.get_all_studies():
            with suppress(KeyError):  # removed meanwhile
                storage.get_all_trials(study._study_id, deepcopy=False)


def _server(app: Guard, door: Door) -> WSGIServer:
    context = _tls(door)
    kind = _Server6 if ":" in door.host else _Server
    try:
        server = make_server(door.host, door.port, app, kind, _Handler)
    except (OSError, OverflowError) as error:
        reason = f"port {door.port} of {door.host} cannot be used ({error}); choose another --port"
        raise StoreError(reason) from error
    if context is not None:  # the handshake is the visit's, or a visitor who does not speak would stop all others
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def _tls(door: Door) -> ssl.SSLContext | None:
    if door.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(door.certificate, door.key)
    except (OSError, ssl.SSLError) as error:
        raise StoreError(f"{door.certificate}: no usable certificate and key ({error})") from error
    return context


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a visit, and so many at most: a slow visitor keeps no other waiting."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self._places = threading.BoundedSemaphore(MAX_VISITS)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._places.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of visitors who leave or cannot speak TLS; the dashboard answers its own errors itself."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def address_string(self) -> str:
        """Return the address itself; its name would have to be asked for."""
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log of visits: the link that lets in holds the token."""
