"""optuna-dashboard over the store, with the published table and the baseline as each study's note."""

import optuna_dashboard
from optuna_dashboard import save_note

from pneumosearch.errors import StoreError
from pneumosearch.report.tables import markdown
from pneumosearch.store import Store

HOST = "127.0.0.1"  # the dashboard has no log-in


def write_note(store: Store, name: str) -> None:
    """Write the report of a study into its note, which plain optuna-dashboard shows as well."""
    save_note(store.load_study(name), markdown(store.record(name), top=10))


def serve(store: Store, port: int) -> None:
    """Serve the dashboard until interrupted.

    Raises:
        StoreError: The port is taken or not allowed.
    """
    for name in store.names():
        write_note(store, name)
    try:
        optuna_dashboard.run_server(store.storage, host=HOST, port=port, artifact_store=store.artifacts)
    except (OSError, OverflowError) as error:
        raise StoreError(f"port {port} of {HOST} cannot be used ({error}); choose another --port") from error
