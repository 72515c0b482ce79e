"""Options that several commands share, and what they mean."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pneumosearch.config import PrecisionChoice
from pneumosearch.errors import ConfigError, as_message
from pneumosearch.studyfile import DURATION_PATTERN

if TYPE_CHECKING:
    from pneumosearch.data.protocols import DataSource
    from pneumosearch.storage.store import Store

#: Where images are looked for when neither --data nor PNEUMOSEARCH_DATA says.
_USUAL_FOLDERS: Final = (Path("chest_xray"), Path("data/chest_xray"))
_PHANTOMS: Final = (600, 232)  # images, seed
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Storage = Annotated[
    str | None,
    typer.Option(
        envvar="PNEUMOSEARCH_STORAGE",
        help="URL of the store: SQLite, PostgreSQL, MySQL, or grpc://HOST:PORT of 'pneumosearch serve'. Other users "
        "see a command's options, not its environment: put a URL with a password there.",
        metavar="URL",
        show_default="sqlite:///RESULTS/pneumosearch.db",
    ),
]
Artifacts = Annotated[
    str | None,
    typer.Option(
        envvar="PNEUMOSEARCH_ARTIFACTS",
        help="Where all machines keep checkpoints, networks and pictures: a folder that all mount, s3://BUCKET/PREFIX "
        "(address and credentials: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...), gs://BUCKET/PREFIX, "
        "az://CONTAINER/PREFIX or sftp://HOST/FOLDER.",
        metavar="URL",
        show_default="where the study has them; else RESULTS of each machine",
    ),
]
Results = Annotated[Path, typer.Option(help="Folder of the store, artifacts, checkpoints and caches.", metavar="DIR")]
Data = Annotated[
    Path | None,
    typer.Option(
        envvar="PNEUMOSEARCH_DATA",
        help="Folder with train, val, test, each with NORMAL and PNEUMONIA.",
        metavar="DIR",
        show_default="./chest_xray or ./data/chest_xray; generated phantoms where there is neither",
    ),
]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be decoded.")]
PatientPattern = Annotated[
    str | None,
    typer.Option(
        help="Regular expression whose one group is the patient, searched in each image's path below the data folder.",
        metavar="REGEX",
        show_default="the study's; else the published names, or Mendeley's",
    ),
]
Precision = Annotated[
    PrecisionChoice | None,
    typer.Option(
        help="Precision of the computation. auto: bfloat16 where the processor is faster with it.",
        show_default="the study file's, or auto; float32 with the original protocol",
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Run only operations that repeat to the last digit. On a processor all do.",
    ),
]
StudyName = Annotated[str, typer.Option(help="Name of the study in the store.")]
Timeout = Annotated[str | None, typer.Option(help="Stop after this time, such as 30m or 2h.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]

RESULTS: Final = Path("results")

#: A database that does not answer at the start of a command is told after this time, s; one that goes later is awaited.
OPENING_PATIENCE: Final = 10.0


def open_store(
    storage: str | None,
    results: Path,
    artifacts: str | None = None,
    study: str = "",
    *,
    must_exist: bool = False,
    begins: bool = False,
) -> "Store":
    """Open the store and the artifacts that the options name.

    Args:
        storage: URL of the store.
        results: Folder of this machine.
        artifacts: URL of those that machines share; where not given, those of the study.
        study: Its name, where it has one.
        must_exist: Refuse a store that is not there yet, for commands that only read.
        begins: Make the artifacts' place, for commands that begin studies; others want it there.
    """
    from pneumosearch.storage.store import Store
    from pneumosearch.storage.urls import sqlite_url

    url = storage or sqlite_url(results / "pneumosearch.db")
    store = Store(url, results, must_exist=must_exist, opening_patience=OPENING_PATIENCE, artifacts=artifacts)
    store.use_artifacts_of(study)
    if store.shared_artifacts is not None and not must_exist:
        if begins and artifacts is not None:
            store.shared_artifacts.make()
        else:
            store.shared_artifacts.check()
    return store


def open_source(
    data: Path | None,
    results: Path,
    skip_unreadable: bool,
    patient_pattern: str | None = None,
    *,
    remark: bool = True,
) -> "DataSource":
    """Open the data folder that the options name, or the usual ones, or phantoms made for the occasion.

    Args:
        data: Where it is given.
        results: Folder of the caches and phantoms.
        skip_unreadable: Leave out images that cannot be decoded.
        patient_pattern: The user's rule for patients.
        remark: Say on standard error what a user should know of the folder.
    """
    from pneumosearch.cli.views import decoding_progress
    from pneumosearch.data.manifest import read_manifest
    from pneumosearch.data.protocols import DataSource

    folder = data or next((usual for usual in _USUAL_FOLDERS if usual.is_dir()), None) or _phantoms(results)
    manifest = read_manifest(folder, patient_pattern)
    for line in manifest.remarks() if remark else ():
        print(as_message(line), file=sys.stderr)
    return DataSource(manifest, results / "cache", skip_unreadable, decoding_progress())


def _phantoms(results: Path) -> Path:
    from pneumosearch.data.phantoms import MARKER, write_phantoms

    n_images, seed = _PHANTOMS
    folder = results / "phantoms" / f"{n_images}-seed{seed}"
    if not (folder / MARKER).exists():
        print(f"no X-rays given (--data DIR): drawing {n_images} PHANTOMS in {folder}", file=sys.stderr)
        write_phantoms(folder, n_images=n_images, seed=seed)
    return folder


def seconds_of(duration: str | None, option: str = "--timeout") -> float:
    """Read a duration such as 90, 45s, 30m, 2h or 1h30m, in seconds; no duration is infinite.

    Raises:
        ConfigError: Anything else, or zero.
    """
    if duration is None:
        return float("inf")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", duration)
    seconds = sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
    if not re.fullmatch(DURATION_PATTERN, duration) or seconds <= 0:
        raise ConfigError(f"{option} '{duration}': wanted a duration such as 90s, 30m, 2h or 1h30m")
    return seconds
