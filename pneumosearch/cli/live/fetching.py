"""What `data fetch` shows while it works, and what it says at the end."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pneumosearch.cli.live.region import Region, console
from pneumosearch.data.names import printable_name

if TYPE_CHECKING:
    from pneumosearch.data.fetch.fetch import Fetched, Step

_SECONDS_BETWEEN_LINES: Final = 10.0


class FetchView:
    """A bar for each step on a terminal; elsewhere a line every ten seconds, and at a step's end."""

    def __init__(self) -> None:
        self._shown: tuple[Step, Progress, Region] | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, step: "Step", done: int, total: int | None) -> None:
        """Show how far a step is."""
        if not console().is_interactive:
            self._line(step, done, total)
            return
        if self._shown is None or self._shown[0] != step:
            self._stop()
            bar = _bar(step)
            region = Region(console(), bar.get_renderable, transient=True)
            self._shown = step, bar, region
            region.start()
        bar = self._shown[1]
        bar.update(bar.task_ids[0], completed=done, total=total)

    def _stop(self) -> None:
        if self._shown is not None:
            self._shown[2].stop()
            self._shown = None

    def _line(self, step: "Step", done: int, total: int | None) -> None:
        if time.monotonic() - self._last < _SECONDS_BETWEEN_LINES and done != total:
            return
        self._last = time.monotonic()
        shown, whole = (decimal(done), decimal(total or 0)) if step == "download" else (f"{done:,}", f"{total or 0:,}")
        unit = "" if step == "download" else " images"
        print(f"{step}ed {shown}{f' of {whole}' if total else ''}{unit}", file=sys.stderr)


def _bar(step: "Step") -> Progress:
    counts: list[ProgressColumn] = [MofNCompleteColumn()]
    if step == "download":
        counts = [DownloadColumn(), TransferSpeedColumn()]
    columns = (TextColumn("{task.description}"), BarColumn(None), *counts, TimeRemainingColumn())
    bar = Progress(*columns, console=console(), auto_refresh=False, expand=True)
    bar.add_task(f"{step}ing", total=None)
    return bar


def fetched_summary(fetched: "Fetched") -> dict[str, Any]:
    """Return what was fetched, for JSON."""
    from pneumosearch.data.fetch.sources import CITATION, LICENCE

    return {
        "folder": printable_name(str(fetched.manifest.folder)),
        "already": fetched.already,
        "origin": fetched.origin or None,
        "found": {split: list(counts) for split, counts in fetched.manifest.counts().items()},
        "as_published": fetched.as_published,
        "passed_over": [each._asdict() for each in fetched.passed_over],
        "licence": LICENCE,
        "citation": list(CITATION),
    }


def print_fetched(fetched: "Fetched", folder: Path) -> None:
    """Print how many images there are now, their licence, whom to cite, and what to do next."""
    from pneumosearch.data.fetch.sources import CITATION, LICENCE
    from pneumosearch.data.manifest import SOURCE_NOTE
    from pneumosearch.records.classes import PUBLISHED_CLASSES

    shown = printable_name(str(folder))
    if fetched.already:
        print(f"{shown}: holds the images already; nothing was fetched")
    else:
        print(f"{shown}: from {fetched.origin}")
    for passed in fetched.passed_over:
        print(passed.remark())
    counts = fetched.manifest.counts()
    for split, found in counts.items():
        if any(found):
            print(f"{split}: " + ", ".join(f"{n:,} {label}" for n, label in zip(found, PUBLISHED_CLASSES, strict=True)))
    n_images = sum(sum(found) for found in counts.values())
    print(f"{n_images:,} images, " + ("as published" if fetched.as_published else "other numbers than the published"))
    if not fetched.already:
        print(
            f"Licence of the published images: {LICENCE}. Please cite (also in {shown}/{SOURCE_NOTE}):",
            *CITATION,
            sep="\n",
        )
    print(f"next: pneumosearch data check --data {shown}")
