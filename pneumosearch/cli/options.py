"""Options that several commands share, and what they mean."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pneumosearch.config import PrecisionChoice
from pneumosearch.errors import ConfigError, as_message
from pneumosearch.published import PUBLISHED_SEED

if TYPE_CHECKING:
    from pneumosearch.data.protocols import DataSource
    from pneumosearch.records.classes import Classes
    from pneumosearch.storage.store import Store

#: Folders that are tried in turn without --data and PNEUMOSEARCH_DATA.
_USUAL_FOLDERS: Final = (Path("chest_xray"), Path("data/chest_xray"))
#: The phantoms that are drawn where there are no images.
PHANTOM_IMAGES: Final = 1900
PHANTOM_SEED: Final = PUBLISHED_SEED
_EARLIER_PHANTOM_IMAGES: Final = 600  # as earlier versions drew them

Storage = Annotated[
    str | None,
    typer.Option(
        envvar="PNEUMOSEARCH_STORAGE",
        help="URL of the store: SQLite, PostgreSQL, MySQL, or grpc://HOST:PORT of 'pneumosearch serve'. Other users "
        "see a command's options, but not its environment: put a URL with a password into the variable.",
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
        show_default="the study's place; else RESULTS of each machine",
    ),
]
Results = Annotated[Path, typer.Option(help="Folder of the store, artifacts, checkpoints and caches.", metavar="DIR")]
Data = Annotated[
    Path | None,
    typer.Option(
        envvar="PNEUMOSEARCH_DATA",
        help="Folder with train, val, test, each with NORMAL and PNEUMONIA, or with the two folders of --classes.",
        metavar="DIR",
        show_default="./chest_xray or ./data/chest_xray; else generated phantoms",
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="Names of the two class folders, the second the positive class. Published figures are then left out.",
        metavar="NEGATIVE,POSITIVE",
        show_default="the study's; else NORMAL,PNEUMONIA",
    ),
]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be decoded.")]
PatientPattern = Annotated[
    str | None,
    typer.Option(
        help="Regular expression that finds the patient, its one group, in each image's path below the data folder.",
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
Log = Annotated[
    list[str] | None,
    typer.Option(
        help="Write the trials to another tool too: tensorboard:DIR, or mlflow:URI of a server or database. May be "
        "given several times.",
        metavar="TOOL:PLACE",
        show_default="the study file's",
    ),
]
LearnFrom = Annotated[
    list[str] | None,
    typer.Option(
        help="An earlier study of this store, or a CSV file of 'report --format csv', that informs the sampler: only "
        "ranks count, and nothing becomes a result. May be given several times.",
        metavar="NAME|CSV",
        show_default="the study file's",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]

RESULTS: Final = Path("results")


def open_store(
    storage: str | None,
    results: Path,
    artifacts: str | None = None,
    study: str = "",
    *,
    must_exist: bool = False,
    begins: bool = False,
) -> "Store":
    """Open the store and the artifacts that the options name, as `storage.opening.open_store` does."""
    from pneumosearch.storage import opening

    return opening.open_store(storage, results, artifacts, study, must_exist=must_exist, begins=begins)


def open_source(
    data: Path | None,
    results: Path,
    skip_unreadable: bool,
    patient_pattern: str | None = None,
    classes: "Classes | None" = None,
    *,
    remark: bool = True,
) -> "DataSource":
    """Open the data folder of the option, else a usual folder, else newly drawn phantoms.

    Args:
        data: The folder, if it is given.
        results: Folder of the caches and phantoms.
        skip_unreadable: Leave out images that cannot be decoded.
        patient_pattern: The user's rule for patients.
        classes: Names of the class folders; the published ones by default.
        remark: Print remarks on the folder to standard error.
    """
    from pneumosearch.cli.live.bars import decoding_progress
    from pneumosearch.data.manifest import read_manifest
    from pneumosearch.data.protocols import DataSource

    folder = data or usual_folder() or _phantoms(results)
    manifest = read_manifest(folder, patient_pattern, classes)
    for line in manifest.remarks() if remark else ():
        print(as_message(line), file=sys.stderr)
    return DataSource(manifest, results / "cache", skip_unreadable, decoding_progress())


def classes_of(given: str | None, data: Path | None) -> "Classes | None":
    """Return the classes of the option --classes; None where it is not given.

    Args:
        given: The option.
        data: The data folder, whose class folders an error names.

    Raises:
        ConfigError: Not two different names of folders.
    """
    from pneumosearch.records.classes import checked_classes

    try:
        return None if given is None else checked_classes(given.split(","), "--classes")
    except ConfigError as error:
        train = (data or usual_folder() or Path()) / "train"
        there = ", ".join(sorted(path.name for path in train.glob("*/")))
        raise ConfigError(f"{error}; {train} holds {there}" if there else str(error)) from error


def usual_folder() -> Path | None:
    """Return the data folder that serves where none is given; None where none of the usual ones is there."""
    return next((usual for usual in _USUAL_FOLDERS if usual.is_dir()), None)


def _phantoms(results: Path) -> Path:
    from pneumosearch.cli.live.bars import working
    from pneumosearch.data.phantoms import MARKER, write_phantoms

    folder, earlier = (
        results / "phantoms" / f"{n}-seed{PHANTOM_SEED}" for n in (PHANTOM_IMAGES, _EARLIER_PHANTOM_IMAGES)
    )
    if (folder / MARKER).exists():
        return folder
    if (earlier / MARKER).exists():  # studies on them go on
        print(f"{earlier}: PHANTOMS of an earlier version; remove them to draw the present ones", file=sys.stderr)
        return earlier
    print(
        f"no X-rays given (--data DIR, or pneumosearch data fetch): drawing {PHANTOM_IMAGES} PHANTOMS in {folder}",
        file=sys.stderr,
    )
    with working("drawing"):
        write_phantoms(folder, n_images=PHANTOM_IMAGES, seed=PHANTOM_SEED)
    return folder
