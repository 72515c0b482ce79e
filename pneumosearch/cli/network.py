"""The commands `serve` and `dashboard`, which open a port."""

import sys
from typing import Annotated

import typer

from pneumosearch.cli import options

Host = Annotated[str, typer.Option(help="Address to listen on. Any address but loopback requires a token.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 13000,
    storage: options.Storage = None,
    results: options.Results = options.RESULTS,
) -> None:
    """Serve the store to workers on other machines until interrupted. They need no access to the database.

    Workers pass the printed URL as --storage, and the token in PNEUMOSEARCH_TOKEN or PNEUMOSEARCH_TOKEN_FILE.

    Example: [bold]pneumosearch serve --host 0.0.0.0[/bold]
    """
    from pneumosearch.storage.grpc_server import serve_storage

    store = options.open_store(storage, results)
    with serve_storage(store.storage, host, port) as server:
        _warn(host)
        _print("workers: pneumosearch worker --storage URL, with the URL below and the same token, if there is one")
        print(server.url, flush=True)
        server.wait()


def dashboard(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
) -> None:
    """Serve optuna-dashboard on the store, to this machine or, with a token as the password, to other machines.

    Example: [bold]pneumosearch dashboard --port 8080[/bold]
    """
    from pneumosearch.dashboard.server import serve
    from pneumosearch.storage.auth import name_in_url

    def print_url() -> None:
        _warn(host)
        _print(f"dashboard: http://{name_in_url(host)}:{port}/")

    store = options.open_store(storage, results, artifacts, must_exist=True)
    store.use_artifacts_of(*store.names())
    serve(store, host, port, print_url)


def _warn(host: str) -> None:
    from pneumosearch.storage.auth import is_loopback

    if not is_loopback(host):
        _print("WARNING: not encrypted: who can read the network's traffic reads the token and all data; else 'ssh -L'")


def _print(text: str) -> None:
    from pneumosearch.errors import printable

    print(printable(text), file=sys.stderr, flush=True)
