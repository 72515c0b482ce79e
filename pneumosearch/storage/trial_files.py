"""What trials keep beside the database: checkpoints, pictures and networks."""

import re
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import quote

import optuna
from optuna.artifacts import get_all_artifact_meta, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound

from pneumosearch.storage.artifact_backends import Folder
from pneumosearch.storage.artifacts import Artifacts

#: Names as study files allow them, and what is appended to them: safe in paths, pages, tables and terminals.
SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


class TrialFiles:
    """The files of trials, below a folder of this machine or among the artifacts that all machines share.

    Args:
        results: Folder of artifacts, checkpoints and caches.
        artifacts: URL of the artifacts that all machines share. None where this machine keeps its own.

    Raises:
        ConfigError: The artifacts' URL cannot be used.
    """

    def __init__(self, results: Path, artifacts: str | None = None) -> None:
        self.results = results
        self.shared_artifacts: Artifacts | None = None  # those that all machines share
        if artifacts is not None:
            self._share(artifacts)

    @property
    def artifacts(self) -> Artifacts | Folder:
        """Where pictures and networks are kept."""
        return self.shared_artifacts or self._own_artifacts

    @property
    def artifacts_url(self) -> str | None:
        """Of the artifacts that all machines share; None where this machine keeps its own."""
        return self.shared_artifacts.url if self.shared_artifacts else None

    @property
    def _own_artifacts(self) -> Folder:
        return Folder(self.results / "artifacts")

    def _share(self, url: str) -> None:
        self.shared_artifacts = Artifacts(url, earlier=self._own_artifacts)

    def checkpoint_folder(self, study: str, number: int) -> Path:
        """Return where a trial keeps its checkpoint while it may go on."""
        return self.results / state_key(study, number)

    def states(self, study: str) -> set[int]:
        """Return the numbers of the trials that keep a checkpoint, on this machine or where all share theirs."""
        folder = states_key(study)
        own: tuple[Folder | Artifacts, ...] = (Folder(self.results),)
        places = own if self.shared_artifacts is None else (*own, self.shared_artifacts)
        return {int(name) for place in places for name in place.names(folder) if name.isdecimal()}

    def remove_state(self, study: str, number: int) -> None:
        """Remove the checkpoint of a trial that will not go on."""
        shutil.rmtree(self.checkpoint_folder(study, number), ignore_errors=True)
        if self.shared_artifacts is not None:
            self.shared_artifacts.remove_folder(state_key(study, number))

    def add_artifact(self, owner: optuna.Trial | optuna.Study, path: Path, mimetype: str) -> None:
        """Copy a file to the artifacts of a trial or a study, once by file name."""
        there = next((meta for meta in get_all_artifact_meta(owner) if meta.filename == path.name), None)
        if there is None:
            upload_artifact(artifact_store=self.artifacts, file_path=str(path), study_or_trial=owner, mimetype=mimetype)
        elif not self._has(there.artifact_id):  # Optuna records first: whoever did may have been killed right then
            with path.open("rb") as file:
                self.artifacts.write(there.artifact_id, file)

    def _has(self, artifact_id: str) -> bool:
        try:
            self.artifacts.open_reader(artifact_id).close()
        except ArtifactNotFound:
            return False
        return True


def states_key(study: str) -> str:
    """Return the folder of the states of a study's trials, below the results and among shared artifacts."""
    # A study of somebody's own loop may have any name, such as one that leads out of this folder.
    return "checkpoints/" + (study if SAFE_NAME.fullmatch(study) else "~" + quote(study, safe="")[:200])


def state_key(study: str, number: int) -> str:
    """Return the folder of the state of a trial, in that of its study."""
    return f"{states_key(study)}/{number}"


def network_file(number: int) -> str:
    """Return the name of the artifact with a trial's network."""
    return f"trial-{number}.keras"
