"""The confirmations of a study, and which one counts now: `predict`, `export` and `report` read them here."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from optuna.artifacts import ArtifactMeta
from optuna.artifacts.exceptions import ArtifactNotFound
from pydantic import ValidationError

from pneumosearch.config import first_problem
from pneumosearch.errors import StoreError
from pneumosearch.records.attributes import WANTED
from pneumosearch.records.confirmation import CONFIRMATION_FILE, Confirmation, WantedReplicates, confirmation_file
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import explained


class StoredConfirmation(NamedTuple):
    """A confirmation with its number, which is part of the names of its files."""

    number: int
    confirmation: Confirmation


def current_confirmation(store: Store, name: str) -> StoredConfirmation | None:
    """Return the confirmation of study `name` that counts now, the latest one; None where there is none.

    Raises:
        StoreError: As `confirmations`.
    """
    return next(reversed(confirmations(store, name)), None)


def confirmations(store: Store, name: str, *, skip_missing: bool = False) -> list[StoredConfirmation]:
    """Return the confirmations of study `name`, the latest last.

    Args:
        store: Store that holds the study.
        name: Name of the study.
        skip_missing: Leave out those whose file is missing, instead of raising.

    Raises:
        StoreError: No study of this name, the file of a confirmation is missing, this version cannot read it, or it is
            of other images than the study.
    """
    found = []
    for number, meta in _files(store, name):
        content = _content(store, meta, skip_missing=skip_missing)
        if content is not None:
            found.append(StoredConfirmation(number, _checked(store, name, meta.filename, content)))
    return sorted(found, key=lambda one: (one.confirmation.time, one.number))


def next_number(store: Store, name: str) -> int:
    """Return the number of the next confirmation of study `name`, from 1.

    It is that of one whose file is missing, where there is such a one: its process may have been killed right then.
    """
    present = {one.number for one in confirmations(store, name, skip_missing=True)}
    return next(number for number in itertools.count(1) if number not in present)


def add_confirmation(store: Store, name: str, number: int, confirmation: Confirmation) -> None:
    """Keep the confirmation `number` of study `name`."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / confirmation_file(number)
        path.write_text(confirmation.model_dump_json(indent=1), encoding="utf-8")
        with explained(store.url):
            store.add_artifact(store.load_study(name), path, "application/json")


def set_wanted(store: Store, name: str, wanted: WantedReplicates) -> None:
    """Write down what the study of replicates `name` shall have, for the processes that join it."""
    with explained(store.url):
        WANTED.set(store.load_study(name), wanted)


def wanted_of(store: Store, name: str) -> WantedReplicates | None:
    """Return what the study of replicates `name` shall have; None where no confirmation of this version said so.

    Raises:
        StoreError: There is no such study, or a later version wrote it.
    """
    with explained(store.url):
        try:
            return WANTED.of(store.load_study(name))
        except ValidationError as error:
            raise StoreError(f"study '{name}': not as this version writes it ({first_problem(error)})") from error


def _files(store: Store, name: str) -> list[tuple[int, ArtifactMeta]]:
    matches = [(CONFIRMATION_FILE.fullmatch(meta.filename), meta) for meta in store.study_artifacts(name)]
    return [(int(match[1] or 1), meta) for match, meta in matches if match]


def _content(store: Store, meta: ArtifactMeta, *, skip_missing: bool) -> bytes | None:
    try:
        return store.artifact_content(meta)
    except StoreError as error:
        if skip_missing and isinstance(error.__cause__, ArtifactNotFound):
            return None
        raise


def _checked(store: Store, name: str, filename: str, content: bytes) -> Confirmation:
    try:
        confirmation = Confirmation.model_validate_json(content)
    except ValidationError as error:
        raise StoreError(f"{filename}: no confirmation of this version ({first_problem(error)})") from error
    if confirmation.fingerprint != store.data(name).fingerprint:
        raise StoreError(f"{filename}: it confirms a study of other images than '{name}'")
    return confirmation
