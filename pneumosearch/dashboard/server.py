"""optuna-dashboard over the store, with the published table and the baseline as each study's note, behind a guard.

cheroot serves it, with a bound on threads and on the time of a slow visitor, which Python's own wsgiref lacks. waitress
has both too, but starts its threads before it tries the port, leaves them where that is taken, and swallows Ctrl-C.
"""

import logging
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import optuna_dashboard
from cheroot.wsgi import Server
from optuna.storages import BaseStorage, get_storage
from optuna_dashboard import get_note, save_note

from pneumosearch.dashboard.auth import Guard
from pneumosearch.dashboard.protection import Protection
from pneumosearch.errors import StoreError
from pneumosearch.report.tables import markdown
from pneumosearch.storage.auth import token_for
from pneumosearch.storage.optuna_private import study_id
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import STORAGE_ERRORS

#: Requests that are answered at a time; further ones wait.
MAX_REQUESTS: Final = 32

_STAYS: Final = "\n*This report is rewritten after each run. Notes of your own stay if they are above its heading.*\n"
_TIMEOUT: Final = 30  # seconds for a visitor to send or take something
_LARGEST_HEADER: Final = 2**16  # bytes

_log = logging.getLogger(__name__)


def write_note(store: Store, name: str) -> None:
    """Write the report of a study into its note, which plain optuna-dashboard shows as well.

    What a user wrote above the report's heading stays.
    """
    study, report = store.load_study(name), markdown(store.record(name), top=10)
    heading = re.escape(report.partition("\n")[0])
    own = re.split(rf"^{heading}$", get_note(study), maxsplit=1, flags=re.MULTILINE)[0].strip()
    save_note(study, "\n\n".join(filter(None, (own, report + _STAYS))))


def serve(store: Store, host: str = "127.0.0.1", port: int = 8080, opened: Callable[[], None] = lambda: None) -> None:
    """Serve the dashboard until interrupted.

    Args:
        store: What to show.
        host: Address to listen at. Visitors must show the token of the environment, where it has one.
        port: Port to listen at.
        opened: Called when the dashboard accepts connections.

    Raises:
        ConfigError: As `token_for`.
        StoreError: The port cannot be used.
    """
    server = _Server((host, port), Guard(pages(store), host, token_for(host)), MAX_REQUESTS, timeout=_TIMEOUT)
    server.max_request_header_size = _LARGEST_HEADER
    try:
        server.prepare()
    except (OSError, OverflowError) as error:
        raise StoreError(f"port {port} of {host} cannot be used ({error}); choose another --port") from error
    try:
        for name in store.names():
            write_note(store, name)
        opened()
        server.serve()
    finally:
        server.stop()


def pages(store: Store) -> Any:
    """Return the dashboard as a WSGI application, which reads a finished trial from the database once.

    It starts reading at once, so that the first visitor does not wait.
    """

    def make() -> Any:
        storage = get_storage(store.storage)
        threading.Thread(target=_read_ahead, args=(storage,), daemon=True).start()
        return optuna_dashboard.wsgi(storage, artifact_store=store.artifacts)

    return Protection(make, store)


def _read_ahead(storage: BaseStorage) -> None:
    with suppress(*STORAGE_ERRORS, StoreError):  # a request meets them again, and its answer says so
        for study in storage.get_all_studies():
            with suppress(KeyError):  # removed meanwhile
                storage.get_all_trials(study_id(study), deepcopy=False)


class _Server(Server):
    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Write no errors of connections to the terminal; the dashboard answers its own errors."""
        _log.debug(msg)

    @staticmethod
    def bind_socket(socket_: socket.socket, bind_addr: tuple[str, int]) -> socket.socket:
        """Close the socket of a port that cannot be used, which cheroot leaves open."""
        try:
            bound: socket.socket = Server.bind_socket(socket_, bind_addr)  # type: ignore[no-untyped-call]
        except (OSError, OverflowError):
            socket_.close()
            raise
        return bound
