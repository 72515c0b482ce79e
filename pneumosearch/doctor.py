"""Whether a study could run here: versions, devices, memory, disk, images, store and optional packages.

Each check returns findings and changes nothing. An error means that a study could not run.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine

from pneumosearch._utils.atomic import writable_folder
from pneumosearch._utils.hardware import PROCESS_MEMORY, free_memory, usable_cores
from pneumosearch.config import TrialConfig
from pneumosearch.data.cache import cache_folder
from pneumosearch.data.manifest import read_manifest
from pneumosearch.errors import PneumosearchError
from pneumosearch.network.backend import abilities, device_in_words, idle_gpu_warning, processor, resolved_precision
from pneumosearch.published import PUBLISHED_PARAMETERS
from pneumosearch.records.classes import Classes
from pneumosearch.search.pruners import KEPT_CHECKPOINTS
from pneumosearch.storage.urls import engine_arguments, explained, parsed_url, safe_url, sqlite_path

State = Literal["good", "warning", "error"]

_PYTHONS: Final = ((3, 11), (3, 14))  # from the first, up to but not including the second
_PACKAGES: Final = ("pneumosearch", "keras", "tensorflow", "optuna", "numpy", "opencv-python-headless")
#: Of each extra, a module that it installs.
_EXTRAS: Final = {
    "jax": "jax",
    "dicom": "pydicom",
    "kaggle": "kagglehub",
    "hub": "optunahub",
    "gp": "torch",
    "mysql": "pymysql",
    "postgres": "psycopg",
    "ray": "ray",
    "mlflow": "mlflow",
    "tensorboard": "tensorboard",
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "sftp": "sshfs",
}
#: Seconds to wait for a server that does not answer.
_PATIENCE: Final = 5.0
#: A checkpoint has the weights, Adam's two moments and the kept weights, each of 4 bytes.
_CHECKPOINT: Final = 4 * 4 * PUBLISHED_PARAMETERS


class Finding(BaseModel):
    """One line of the examination."""

    model_config = ConfigDict(frozen=True)

    subject: str
    state: State
    text: str
    remedy: str | None = None  # what to do, unless the state is good


def examine(data: Path | None, storage: str, results: Path, classes: Classes | None = None) -> list[Finding]:
    """Return all findings.

    Args:
        data: Folder of the images; None where a study would draw phantoms.
        storage: URL of the store.
        results: Folder of artifacts, checkpoints and caches.
        classes: Names of the class folders; the published ones by default.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _versions,
        _device,
        _resources,
        lambda: _images(data, classes),
        lambda: _folders(results, data),
        lambda: _store(storage),
        _extras,
    )
    return [finding for check in checks for finding in check()]


def worst(findings: list[Finding]) -> State:
    """Return the gravest state among the findings."""
    order: tuple[State, ...] = get_args(State)
    return max((finding.state for finding in findings), key=order.index, default="good")


def _versions() -> Iterator[Finding]:
    supported = _PYTHONS[0] <= sys.version_info[:2] < _PYTHONS[1]
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    remedy = None if supported else "use Python 3.11, 3.12 or 3.13"
    yield Finding(subject="Python", state="good" if supported else "warning", text=text, remedy=remedy)
    yield Finding(subject="packages", state="good", text=", ".join(f"{name} {_version(name)}" for name in _PACKAGES))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _device() -> Iterator[Finding]:
    try:
        warning, device = idle_gpu_warning(), device_in_words()
    except Exception as error:  # noqa: BLE001  whatever a broken installation raises at import
        yield Finding(
            subject="backend",
            state="error",
            text=f"Keras does not start: {type(error).__name__}: {error}".splitlines()[0],
            remedy="install the pinned versions again: scripts/run --version",
        )
        return
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    yield Finding(
        subject="device",
        state="warning" if warning else "good",
        text=f"{backend} trains on {device}",
        remedy=warning,
    )
    maker, _ = processor()
    precision = f"--precision auto means {resolved_precision('auto')}"
    yield Finding(subject="processor", state="good", text=f"{maker or 'unknown'}: {abilities()}; {precision}")


def _resources() -> Iterator[Finding]:
    free, cores = free_memory(), usable_cores()
    enough = free >= PROCESS_MEMORY
    yield Finding(
        subject="cores and memory",
        state="good" if enough else "warning",
        text=f"{cores} cores and {_gigabytes(free)} of memory may be used, after the limits of a container",
        remedy=None if enough else f"a training process takes up to {_gigabytes(PROCESS_MEMORY)}: free some memory",
    )


def _images(data: Path | None, classes: Classes | None) -> Iterator[Finding]:
    if data is None:
        text = "none given: a study would train on generated phantoms"
        yield Finding(
            subject="images",
            state="warning",
            text=text,
            remedy="fetch them with pneumosearch data fetch, or name a folder with --data",
        )
        return
    try:
        manifest = read_manifest(data, classes=classes)
    except PneumosearchError as error:
        yield Finding(subject="images", state="error", text=str(error), remedy="see docs/data.md for the layout")
        return
    counts = ", ".join(f"{split} {normal} + {ill}" for split, (normal, ill) in manifest.counts().items())
    names = " + ".join(manifest.classes)
    kind = "phantoms" if manifest.kind == "phantoms" else "images"
    yield Finding(subject="images", state="good", text=f"{manifest.folder}: {kind}, {names}: {counts}")
    for remark in manifest.remarks():
        yield Finding(subject="images", state="warning", text=remark, remedy="pneumosearch data check shows all")


def _folders(results: Path, data: Path | None) -> Iterator[Finding]:
    for subject, folder in (("results", results), ("pixel cache", cache_folder(results / "cache"))):
        writable = writable_folder(folder)
        remedy = None if writable else "give another folder with --results"
        text = f"{folder}: can{'' if writable else 'not'} be written"
        yield Finding(subject=subject, state="good" if writable else "error", text=text, remedy=remedy)
    there = next(folder for folder in (results.absolute(), *results.absolute().parents) if folder.exists())
    free, needed = shutil.disk_usage(there).free, _needed(data)
    yield Finding(
        subject="disk",
        state="good" if free >= needed else "error",
        text=f"{_gigabytes(free)} free at {there}; a study at {TrialConfig().image_size} pixels takes "
        f"about {_gigabytes(needed)}",
        remedy=None if free >= needed else "free some space, or give another folder with --results",
    )


def _needed(data: Path | None) -> int:
    """Return the bytes of the pixel cache and of the checkpoints that a study keeps at a time."""
    n_images = len(list(data.rglob("*.*"))) if data is not None and data.is_dir() else 0
    return n_images * TrialConfig().image_size ** 2 + (KEPT_CHECKPOINTS + 1) * _CHECKPOINT


def _store(storage: str) -> Iterator[Finding]:
    try:
        text = _reached(storage)
    except PneumosearchError as error:
        remedy = "check --storage, the server and the password"
        yield Finding(subject="store", state="error", text=str(error), remedy=remedy)
    else:
        yield Finding(subject="store", state="good", text=text)


def _reached(storage: str) -> str:
    """Return what the store is; nothing is made there. Raises `StoreError` where it cannot be used."""
    path = sqlite_path(storage)
    if path is not None and not path.exists():
        return f"{path}: not there yet; the first study makes it"
    url = parsed_url(storage)
    if url.drivername.startswith("grpc"):
        from pneumosearch.storage.urls import open_storage

        open_storage(storage, must_exist=True, patience=_PATIENCE)
    else:
        with explained(storage):
            engine = create_engine(url, **engine_arguments(url))
            with engine.connect():
                pass
            engine.dispose()
    return f"{safe_url(storage)}: reached"


def _extras() -> Iterator[Finding]:
    there = [extra for extra, module in _EXTRAS.items() if find_spec(module) is not None]
    absent = [extra for extra in _EXTRAS if extra not in there]
    text = f"installed: {', '.join(there) or 'none'}; not installed: {', '.join(absent) or 'none'}"
    yield Finding(subject="extras", state="good", text=text)


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
