"""The commands about X-ray folders."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pneumosearch.cli import options
from pneumosearch.data.fetch.sources import Source

data_app = typer.Typer(
    name="data", help="Fetch X-rays, look at folders of them, and make phantoms.", no_args_is_help=True
)


@data_app.command("check")
def data_check(
    data: options.Data = None,
    patient_pattern: options.PatientPattern = None,
    classes: options.ClassNames = None,
    results: options.Results = options.RESULTS,
    json: options.Json = False,
) -> None:
    """Count the images of a data folder beside the published counts.

    Example: [bold]pneumosearch data check --data chest_xray[/bold]
    """
    from pneumosearch.cli.views import print_json
    from pneumosearch.report.data_check import data_check_summary, print_data_check

    named = options.classes_of(classes, data)
    manifest = options.open_source(data, results, False, patient_pattern, named, remark=False).manifest
    if json:
        print_json(data_check_summary(manifest))
    else:
        print_data_check(manifest)


@data_app.command("fetch")
def data_fetch(
    folder: Annotated[Path, typer.Argument(help="Folder for the images.", metavar="DIR")] = Path("chest_xray"),
    source: Annotated[
        Source,
        typer.Option(help="mendeley: the authors' archive, 1.2 GB. kaggle: the copy with a val folder, 2.5 GB."),
    ] = "mendeley",
    url: Annotated[
        str | None,
        typer.Option(help="Take the archive from this address or file: a mirror, or a download of yours."),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Checksum that the archive of --url must have.")] = None,
    json: options.Json = False,
) -> None:
    """Download the published X-rays, check them, and unpack them with their licence beside them.

    An interrupted download goes on where it stopped when the command is given again.

    Example: [bold]pneumosearch data fetch chest_xray[/bold]
    """
    from pneumosearch.cli.live.fetching import FetchView, fetched_summary, print_fetched
    from pneumosearch.cli.views import print_json
    from pneumosearch.data.fetch.fetch import fetch

    with FetchView() as view:
        fetched = fetch(folder, progress=view, source=source, url=url, sha256=sha256)
    if json:
        print_json(fetched_summary(fetched))
    else:
        print_fetched(fetched, folder)


@data_app.command("audit")
def data_audit(
    data: options.Data = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with plots and pictures of pairs.", metavar="FILE")
    ] = None,
    patient_pattern: options.PatientPattern = None,
    classes: options.ClassNames = None,
    results: options.Results = options.RESULTS,
    json: options.Json = False,
) -> None:
    """Look for broken images, duplicates, leaks between splits, and features that tell the splits or classes apart.

    An audit reads the test images too, but trains nothing that a search uses: it is no opening of the test set.

    Example: [bold]pneumosearch data audit --data chest_xray --html audit.html[/bold]
    """
    from pneumosearch.cli.live.bars import working
    from pneumosearch.cli.views import print_json
    from pneumosearch.data.audit.audit import audit
    from pneumosearch.report.audit import print_audit
    from pneumosearch.report.audit_page import write_page

    named = options.classes_of(classes, data)
    source = options.open_source(data, results, False, patient_pattern, named, remark=False)
    with working("auditing"):
        found = audit(source.manifest, source.progress)
    if html is not None:
        write_page(found, html)
        print(f"{html}: written", file=sys.stderr)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        print_audit(found)


Shifts = Annotated[
    list[str] | None,
    typer.Option(
        "--shift",
        help="Plant a shortcut in train and val: compression, geometry, exposure, border or marker tells the classes "
        "there, and not in the test folder. Strength 0 to 1, by default 1. Several combine.",
        metavar="NAME[=STRENGTH]",
    ),
]


@data_app.command("phantoms")
def data_phantoms(
    folder: Annotated[Path, typer.Argument(help="Folder to write; it must not exist, or be empty.", metavar="DIR")],
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = options.PHANTOM_IMAGES,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")] = options.PHANTOM_SEED,
    shift: Shifts = None,
) -> None:
    """Draw procedural chest X-rays, for trying things out without real ones.

    With --shift, the file PLANTED.json in the folder says what is planted, and in which image.

    Example: [bold]pneumosearch data phantoms phantoms --images 600 --seed 232[/bold]

    Example: [bold]pneumosearch data phantoms laboratory --shift compression --shift exposure=0.8[/bold]
    """
    from pneumosearch.cli.live.bars import working
    from pneumosearch.data.phantoms import write_phantoms
    from pneumosearch.data.planted_shifts import read_shift

    shifts = dict(read_shift(text) for text in shift or ())
    with working(f"drawing {images} phantoms"):
        write_phantoms(folder, n_images=images, seed=seed, shifts=shifts)
    planted = "".join(f"; planted: {name} {strength:g}" for name, strength in shifts.items())
    print(f"{folder}: {images} PHANTOMS written (seed {seed}); they are drawings, not X-rays{planted}", file=sys.stderr)
