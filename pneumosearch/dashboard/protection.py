"""What the dashboard does not do to a study, because something that belongs to the study would be lost.

optuna-dashboard renames a study by copying its trials to a new one. The copy has no confirmation, and its replicates
and checkpoints keep the old name. A study that is deleted takes its record of openings of the test images along.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from optuna.artifacts import get_all_artifact_meta
from optuna.study import get_all_study_names

from pneumosearch.records.attributes import TEST_OPENINGS
from pneumosearch.records.confirmation import CONFIRMATION_FILE
from pneumosearch.records.trial import REPLICATES
from pneumosearch.storage.optuna_private import study_id
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import explained

_RENAME: Final = re.compile(r"/api/studies/-?\d+/rename")
_STUDY: Final = re.compile(r"/api/studies/(-?\d+)")
_ARTIFACT: Final = re.compile(r"/api/artifacts/(-?\d+)/([0-9a-fA-F-]+)")

_NO_RENAMING: Final = (
    "A study keeps its name: its confirmation and its checkpoints would be lost with it. "
    "Give the name at the start, with --name or in the study file."
)


class Protection:
    """A WSGI application that passes to `app` what does no harm to a study, and answers 403 with a reason otherwise.

    Args:
        make: Returns the dashboard. It is made anew after a study was deleted: it remembers trials by the number of
            their study, and SQLite gives a free number to the next one.
        store: Whose studies it shows.
    """

    def __init__(self, make: Callable[[], WSGIApplication], store: Store) -> None:
        self._make, self._app, self._store = make, make(), store

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        method, path = environ["REQUEST_METHOD"], _path(environ)
        reason = self._refusal(method, path)
        if reason is None:
            answer = self._app(environ, start_response)
            if method == "DELETE" and _STUDY.fullmatch(path):
                self._app = self._make()
            return answer
        body = json.dumps({"reason": reason}).encode()
        start_response("403 Forbidden", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _refusal(self, method: str, path: str) -> str | None:
        if method == "POST" and _RENAME.fullmatch(path):
            return _NO_RENAMING
        if method != "DELETE":
            return None
        if study := _STUDY.fullmatch(path):
            return self._about(int(study[1]), self._needed)
        if artifact := _ARTIFACT.fullmatch(path):
            return self._about(int(artifact[1]), lambda name: self._confirmed_by(name, artifact[2]))
        return None

    def _about(self, number: int, reason: Callable[[str], str | None]) -> str | None:
        """Return the reason not to touch the study of this number in the storage, if it is one of pneumosearch."""
        with explained(self._store.url):
            names = {study_id(study): study.study_name for study in self._store.storage.get_all_studies()}
        name = names.get(number)
        return reason(name) if name in self._store.names() else None

    def _needed(self, name: str) -> str | None:
        """Say why study `name` cannot be deleted; None where it can."""
        study = self._store.load_study(name)
        if TEST_OPENINGS.among(study.user_attrs):
            return f"Study '{name}' is the record of when the test images were opened, which the store must keep."
        replicates = name + REPLICATES
        confirmed = any(CONFIRMATION_FILE.fullmatch(meta.filename) for meta in self._store.study_artifacts(name))
        if replicates in get_all_study_names(self._store.storage) or confirmed:
            return f"Study '{name}' has a confirmation, or replicates for one, '{replicates}', which belong to it."
        return None

    def _confirmed_by(self, name: str, artifact: str) -> str | None:
        """Say why an artifact of study `name` cannot be deleted; None where it can."""
        with explained(self._store.url):
            files = {meta.artifact_id: meta.filename for meta in get_all_artifact_meta(self._store.load_study(name))}
        if CONFIRMATION_FILE.fullmatch(files.get(artifact, "")):
            return f"'{files[artifact]}' is the confirmation of study '{name}'."
        return None


def _path(environ: WSGIEnvironment) -> str:
    """Return the path of a request as the dashboard reads it."""
    return str(environ.get("PATH_INFO", "")).encode("latin-1", "replace").decode("utf-8", "replace")
