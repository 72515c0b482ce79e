"""Checkpoints of a trial in the artifacts that machines share: one object an epoch, so that any worker can go on.

The trial's attribute `checkpoints` names the last two, oldest first, each with its SHA-256. It is written after the
object is complete. An object that does not match (torn, rotten, of another worker) is not used; then the one before it
serves.
"""

import hashlib
import logging
import shutil
import time
import zipfile
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, Final, cast

import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from pydantic import BaseModel, ConfigDict, ValidationError

from pneumosearch._utils.atomic import replacing
from pneumosearch.config import RunSpec
from pneumosearch.records.attributes import CHECKPOINTS, CONTINUES
from pneumosearch.records.epoch import History
from pneumosearch.storage.artifacts import Artifacts
from pneumosearch.storage.trial_files import TrialFiles, state_key
from pneumosearch.training.checkpoint import CHECKPOINT_FILE, saved_epochs
from pneumosearch.training.loop import KEPT_WEIGHTS_FILE

_KEPT: Final = 2
_CHUNK: Final = 2**20  # bytes
# The kept weights first, so that a checkpoint never lies there without them.
_FILES: Final = (KEPT_WEIGHTS_FILE, CHECKPOINT_FILE)

_SLOW: Final = 1.0  # seconds
_warned: Final[set[str]] = set()  # URLs that a warning called slow

_log = logging.getLogger(__name__)


class UploadedCheckpoint(BaseModel):
    """A checkpoint among the artifacts, as the attribute of its trial describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    key: str
    sha256: str
    bytes: int
    seconds: float  # it took to pack and to send


def upload(files: TrialFiles, trial: optuna.Trial, folder: Path, history: History) -> None:
    """Send the checkpoint in `folder` after this history to the shared artifacts, where there are any that lack it.

    Raises:
        ArtifactsError: They cannot be used; then nothing is recorded.
    """
    artifacts, earlier, epoch = files.shared_artifacts, uploaded(trial), len(history)
    if artifacts is None or (earlier and earlier[-1].epoch >= epoch):
        return
    begin, key = time.perf_counter(), f"{state_key(trial.study.study_name, trial.number)}/epoch-{epoch:04d}.zip"
    with NamedTemporaryFile(dir=folder, suffix=".zip") as file:
        _pack(folder, file)
        digest, size = _digest(file), file.tell()
        file.seek(0)
        artifacts.write(key, cast(BinaryIO, file))
    seconds = time.perf_counter() - begin
    _warn_if_slow(artifacts.url, seconds, size, history[-1].seconds)
    kept = [*earlier, UploadedCheckpoint(epoch=epoch, key=key, sha256=digest, bytes=size, seconds=seconds)]
    _record(trial, kept[-_KEPT:])
    for old in kept[:-_KEPT]:
        if _belongs_to(old, trial):  # those of a trial that this one continues are removed with that one
            artifacts.remove(old.key)


def download(files: TrialFiles, trial: optuna.Trial, folder: Path, run: RunSpec, fingerprint: str) -> None:
    """Bring the last checkpoint of `trial` from the shared artifacts to `folder`, unless the one there is as far.

    Args:
        files: Whose artifacts.
        trial: About to go on.
        folder: Of its checkpoint on this machine.
        run: What it trains.
        fingerprint: Of the images.

    Raises:
        ArtifactsError: The artifacts cannot be used.
    """
    artifacts = files.shared_artifacts
    if artifacts is None:
        return
    here = saved_epochs(folder, run, fingerprint)
    found = sorted(uploaded(trial), key=lambda one: one.epoch)
    while found and found[-1].epoch > here:
        if _downloaded(artifacts, found[-1], folder):
            _log.info("trial %d: took %s from %s", trial.number, found[-1].key, artifacts.url)
            return
        _log.warning("trial %d: %s in %s is missing or damaged", trial.number, found.pop().key, artifacts.url)
        _record(trial, found)  # so that its epoch is sent again


def uploaded(trial: Any) -> list[UploadedCheckpoint]:
    """Return the uploaded checkpoints of a trial, oldest first; while it has none, those of the trial it continues."""
    continues = CONTINUES.of(trial)
    if not CHECKPOINTS.on(trial) and continues is not None:
        trial = trial.study.get_trials(deepcopy=False)[continues]
    try:
        return [UploadedCheckpoint.model_validate(one) for one in CHECKPOINTS.of(trial) or ()]
    except ValidationError:
        return []  # of another version: the training starts again and gives the same numbers


def _warn_if_slow(url: str, seconds: float, size: int, training: float) -> None:
    """Warn once where sending takes a good part of the time."""
    if url not in _warned and seconds > max(_SLOW, training / 2):
        _warned.add(url)
        text = "sending a checkpoint of %.0f MB to %s took %.1f s, and training its epoch %.1f s"
        _log.warning(text, size / 1e6, url, seconds, training)


def _record(trial: optuna.Trial, kept: list[UploadedCheckpoint]) -> None:
    CHECKPOINTS.set(trial, [one.model_dump() for one in kept])


def _belongs_to(one: UploadedCheckpoint, trial: optuna.Trial) -> bool:
    return one.key.startswith(state_key(trial.study.study_name, trial.number) + "/")


def _pack(folder: Path, file: Any) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # weights do not become smaller
        for name in _FILES:
            if (folder / name).exists():
                archive.write(folder / name, name)


def _digest(file: Any) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _downloaded(artifacts: Artifacts, there: UploadedCheckpoint, folder: Path) -> bool:
    """Bring a checkpoint to `folder`; return whether it was there and as its trial describes it."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, suffix=".zip") as file:
        try:
            artifacts.read(there.key, lambda body: _copy(body, file, there.bytes))
        except ArtifactNotFound:
            return False
        return _digest(file) == there.sha256 and _unpacked(file, folder, there.bytes)


def _copy(body: BinaryIO, file: Any, size: int) -> None:
    """Copy an artifact from its beginning, and stop once it is longer than it should be."""
    file.seek(0)
    file.truncate()
    while (chunk := body.read(_CHUNK)) and file.tell() <= size:
        file.write(chunk)
    file.flush()


def _unpacked(file: Any, folder: Path, size: int) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if CHECKPOINT_FILE not in members or sum(member.file_size for member in members.values()) > size:
                return False
            for name in filter(members.__contains__, _FILES):
                with replacing(folder / name) as temporary, archive.open(name) as packed, temporary.open("wb") as out:
                    shutil.copyfileobj(packed, out, _CHUNK)
    except zipfile.BadZipFile:
        return False
    return True
