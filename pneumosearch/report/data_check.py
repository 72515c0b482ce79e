"""The image counts of a data folder, next to the published ones."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pneumosearch.data.names import printable_name
from pneumosearch.errors import printable
from pneumosearch.published import PUBLISHED_COUNTS
from pneumosearch.report.tables import phantom_warning

if TYPE_CHECKING:
    from pneumosearch.data.manifest import Manifest


def data_check_summary(manifest: "Manifest") -> dict[str, Any]:
    """Return the image counts of a folder for JSON, the published counts, and whether they agree.

    The last two are None where the classes are a user's own.
    """
    found = {str(split): list(counts) for split, counts in manifest.counts().items()}
    counts = {split: list(counts) for split, counts in PUBLISHED_COUNTS.items()}
    published = None if manifest.shown_as == "own images" else counts
    return {
        "folder": printable_name(str(manifest.folder)),
        "kind": manifest.kind,
        "classes": list(manifest.classes),
        "found": found,
        "published": published,
        "agrees": None if published is None else found == published,
        "passed_over": [each._asdict() for each in manifest.passed_over],
        "cannot_be_opened": dict(manifest.unopenable()),
        "unknown_patients": manifest.n_unknown_patients,
        "remarks": manifest.remarks(),
    }


def print_data_check(manifest: "Manifest") -> None:
    """Print the image counts of a folder, next to the published counts where it may be theirs, and remarks on it."""
    summary, console = data_check_summary(manifest), Console()
    if manifest.kind == "phantoms":
        console.print(phantom_warning())
    table = Table(title=f"Images in {escape(summary['folder'])}")
    published, table_headings = summary["published"], ["split"]
    for name in manifest.classes:
        table_headings += [escape(name), *["published"] * (published is not None)]
    for heading in table_headings:
        table.add_column(heading, justify="right" if heading != "split" else "left")
    for split, found in manifest.counts().items():
        beside = [[count] if published is None else [count, published[split][i]] for i, count in enumerate(found)]
        table.add_row(split, *(f"{number:,}" for numbers in beside for number in numbers))
    console.print(table)
    for line in (*summary["remarks"], *(f"cannot be opened: {n} ({why})" for why, n in manifest.unopenable().items())):
        console.print(printable(line), markup=False, highlight=False)
    agrees = summary["agrees"]
    if agrees is None:
        return
    console.print(
        "The counts equal the published counts." if agrees else "The counts differ from the published counts."
    )
