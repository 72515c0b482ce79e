"""Opening the store of a study, with the artifacts that belong to it: what each command with a store begins with."""

from pathlib import Path
from typing import Final

from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url

#: How long a command waits at its start for a database that does not answer, s. Later it waits longer.
OPENING_PATIENCE: Final = 10.0


def open_store(
    storage: str | None,
    results: Path,
    artifacts: str | None = None,
    study: str = "",
    *,
    must_exist: bool = False,
    begins: bool = False,
) -> Store:
    """Open a store and the artifacts of one of its studies.

    Args:
        storage: URL of the store; a file in `results` where none is given.
        results: Folder of this machine.
        artifacts: URL of the artifacts that machines share; by default those of the study.
        study: Name of the study, if there is one.
        must_exist: Refuse a store that is not there yet, for those who only read.
        begins: Create the place of the artifacts. Only who starts a study does; others need it to exist.

    Raises:
        ConfigError: The artifacts' URL cannot be used.
        StoreError: The store cannot be opened.
    """
    url = storage or sqlite_url(results / "pneumosearch.db")
    store = Store(url, results, must_exist=must_exist, opening_patience=OPENING_PATIENCE, artifacts=artifacts)
    store.use_artifacts_of(study)
    if store.shared_artifacts is not None and not must_exist:
        if begins and artifacts is not None:
            store.shared_artifacts.make()
        else:
            store.shared_artifacts.check()
    return store
