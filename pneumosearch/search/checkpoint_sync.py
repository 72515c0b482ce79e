"""Checkpoints of a trial in the artifacts that machines share: one object an epoch, so that any worker can go on.

Optuna's `upload_artifact` only adds, under keys that it draws: it would keep every epoch, and check none.

The trial's attribute `checkpoints` names the last two, oldest first, each with its SHA-256. It is written after the
object is complete. An object that does not match (torn, rotten, of another worker) is not used; then the one before it
serves. Of a trial with folds these are the first fold's, whose network is kept; `fold_checkpoints` names the last two
of all other folds, which train one after the other.
"""

import hashlib
import logging
import time
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from pydantic import BaseModel, ConfigDict, ValidationError

from pneumosearch._utils.atomic import replacing
from pneumosearch.config import RunSpec
from pneumosearch.records.attributes import CHECKPOINTS, CONTINUES, FOLD_CHECKPOINTS, Attribute
from pneumosearch.records.epoch import History
from pneumosearch.storage.artifacts import Artifacts
from pneumosearch.storage.trial_files import TrialFiles, state_key
from pneumosearch.training.checkpoint import CHECKPOINT_FILE, saved_epochs
from pneumosearch.training.loop import KEPT_WEIGHTS_FILE

_KEPT: Final = 2
# The kept weights first, so that a checkpoint never lies there without them.
_FILES: Final = (KEPT_WEIGHTS_FILE, CHECKPOINT_FILE)

_SLOW: Final = 1.0  # seconds
_warned: Final[set[str]] = set()  # URLs that a warning called slow

_log = logging.getLogger(__name__)


class UploadedCheckpoint(BaseModel):
    """A checkpoint among the artifacts, as the attribute of its trial describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    fold: int = 0  # among the trainings of its trial
    key: str
    sha256: str
    bytes: int
    seconds: float  # it took to pack and to send


def upload(files: TrialFiles, trial: optuna.Trial, folder: Path, history: History, fold: int = 0) -> None:
    """Send the checkpoint in `folder` after this history to the shared artifacts, where there are any that lack it.

    Args:
        files: Whose artifacts.
        trial: The one that trains.
        folder: Of the checkpoint on this machine.
        history: After which it is.
        fold: Position of the training among those of its trial.

    Raises:
        ArtifactsError: They cannot be used; then nothing is recorded.
    """
    artifacts, earlier, epoch = files.shared_artifacts, uploaded(trial, fold), len(history)
    if artifacts is None or any(one.fold == fold and one.epoch >= epoch for one in earlier):
        return
    begin, name = time.perf_counter(), f"fold-{fold}-epoch-{epoch:04d}.zip" if fold else f"epoch-{epoch:04d}.zip"
    key = f"{state_key(trial.study.study_name, trial.number)}/{name}"
    content = _packed(folder)
    artifacts.write(key, BytesIO(content))
    seconds, digest = time.perf_counter() - begin, hashlib.sha256(content).hexdigest()
    _warn_if_slow(artifacts.url, seconds, len(content), history[-1].seconds)
    size = len(content)
    new = UploadedCheckpoint(epoch=epoch, fold=fold, key=key, sha256=digest, bytes=size, seconds=seconds)
    kept = [*earlier, new]
    _record(trial, kept[-_KEPT:], fold)
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
    here, fold = saved_epochs(folder, run, fingerprint), run.position
    found = sorted((one for one in uploaded(trial, fold) if one.fold == fold), key=lambda one: one.epoch)
    while found and found[-1].epoch > here:
        if _downloaded(artifacts, found[-1], folder):
            _log.info("trial %d: took %s from %s", trial.number, found[-1].key, artifacts.url)
            return
        _log.warning("trial %d: %s in %s is missing or damaged", trial.number, found.pop().key, artifacts.url)
        _record(trial, found, fold)  # so that its epoch is sent again


def uploaded(trial: Any, fold: int = 0) -> list[UploadedCheckpoint]:
    """Return the uploaded checkpoints of a trial, oldest first; while it has none, those of the trial it continues.

    Args:
        trial: Begun.
        fold: 0 for those of the first of its folds, or of its only training; else those of all other folds.
    """
    continues = CONTINUES.of(trial)
    if not fold and not CHECKPOINTS.on(trial) and continues is not None:
        trial = trial.study.get_trials(deepcopy=False)[continues]
    try:
        return [UploadedCheckpoint.model_validate(one) for one in _attribute(fold).of(trial) or ()]
    except ValidationError:
        return []  # of another version: the training starts again and gives the same numbers


def _warn_if_slow(url: str, seconds: float, size: int, training: float) -> None:
    """Warn once where sending takes a good part of the time."""
    if url not in _warned and seconds > max(_SLOW, training / 2):
        _warned.add(url)
        text = "sending a checkpoint of %.0f MB to %s took %.1f s, and training its epoch %.1f s"
        _log.warning(text, size / 1e6, url, seconds, training)


def _attribute(fold: int) -> Attribute[list[dict[str, Any]]]:
    return FOLD_CHECKPOINTS if fold else CHECKPOINTS


def _record(trial: optuna.Trial, kept: list[UploadedCheckpoint], fold: int) -> None:
    # Without the fold of the first, earlier versions read them too.
    _attribute(fold).set(trial, [one.model_dump(exclude_defaults=True) for one in kept])


def _belongs_to(one: UploadedCheckpoint, trial: optuna.Trial) -> bool:
    return one.key.startswith(state_key(trial.study.study_name, trial.number) + "/")


def _packed(folder: Path) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # weights do not become smaller
        for name in _FILES:
            if (folder / name).exists():
                archive.write(folder / name, name)
    return file.getvalue()


def _downloaded(artifacts: Artifacts, there: UploadedCheckpoint, folder: Path) -> bool:
    """Bring a checkpoint to `folder`; return whether it was there and as its trial describes it."""
    try:
        content = artifacts.read(there.key, lambda body: body.read(there.bytes + 1))
    except ArtifactNotFound:
        return False
    return hashlib.sha256(content).hexdigest() == there.sha256 and _unpacked(content, folder)


def _unpacked(content: bytes, folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if CHECKPOINT_FILE not in members or sum(member.file_size for member in members.values()) > len(content):
                return False
            for name in filter(members.__contains__, _FILES):
                with replacing(folder / name) as temporary:
                    temporary.write_bytes(archive.read(name))
    except zipfile.BadZipFile:
        return False
    return True
