"""The commands `serve` and `dashboard`, which open a port."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumosearch.cli import options

if TYPE_CHECKING:
    from pneumosearch.storage.auth import Token

Host = Annotated[str, typer.Option(help="Address to listen on. Any address but loopback requires a token.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
Certificate = Annotated[Path | None, typer.Option(help="Certificate for TLS (PEM, with its chain).", metavar="FILE")]
Key = Annotated[Path | None, typer.Option(help="Key of the certificate (PEM).", metavar="FILE")]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 13000,
    certificate: Certificate = None,
    key: Key = None,
    storage: options.Storage = None,
    results: options.Results = options.RESULTS,
) -> None:
    """Serve the store to workers on other machines until interrupted. They need no access to the database.

    Workers pass the printed URL as --storage, and the token in PNEUMOSEARCH_TOKEN or PNEUMOSEARCH_TOKEN_FILE.

    Example: [bold]pneumosearch serve --host 0.0.0.0 --certificate cert.pem --key key.pem[/bold]
    """
    from pneumosearch.storage.auth import token_for
    from pneumosearch.storage.grpc_server import Tls, serve_storage

    _check_pair(certificate, key)
    token = token_for(host, results)
    tls = Tls(certificate, key) if certificate and key else None
    store = options.open_store(storage, results)
    with serve_storage(store.storage, host, port, token.secret if token else None, tls) as server:
        _warn(host, tls is not None)
        _print("workers: pneumosearch worker --storage URL, with the URL below" + _certificate_hint(certificate))
        if token is not None:
            _print(f"token: {token.source}; on workers set PNEUMOSEARCH_TOKEN, or PNEUMOSEARCH_TOKEN_FILE to a copy")
        print(server.url, flush=True)
        server.wait()


def dashboard(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    certificate: Certificate = None,
    key: Key = None,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
) -> None:
    """Serve optuna-dashboard on the store, to this machine or, with a token, to other machines.

    Example: [bold]pneumosearch dashboard --port 8080[/bold]
    """
    from pneumosearch.dashboard.server import Endpoint, serve
    from pneumosearch.storage.auth import token_for

    _check_pair(certificate, key)
    token = token_for(host, results)
    endpoint = Endpoint(host, port, token.secret if token else None, certificate, key)

    def print_url() -> None:
        _warn(host, certificate is not None)
        _print(f"dashboard: {endpoint.url}{_link(token)}")

    store = options.open_store(storage, results, artifacts, must_exist=True)
    store.use_artifacts_of(*store.names())
    serve(store, endpoint, print_url)


def _check_pair(certificate: Path | None, key: Path | None) -> None:
    from pneumosearch.errors import ConfigError

    if (certificate is None) != (key is None):
        raise ConfigError("--certificate and --key: TLS needs both")


def _warn(host: str, tls: bool) -> None:
    from pneumosearch.storage.auth import is_loopback

    if not tls and not is_loopback(host):
        _print("WARNING: no TLS: anyone on the network can read the token and all data; see --certificate and --key")


def _certificate_hint(certificate: Path | None) -> str:
    if certificate is None:
        return ""
    return "; if the certificate is not signed by an authority, add ?certificate=FILE (a copy of it) to the URL"


def _link(token: "Token | None") -> str:
    if token is None:
        return ""
    from pneumosearch.storage.auth import VARIABLE

    content = token.source if token.source == f"${VARIABLE}" else f"$(cat {shlex.quote(token.source)})"
    return f"?token={content}"


def _print(text: str) -> None:
    from pneumosearch.errors import printable

    print(printable(text), file=sys.stderr, flush=True)
