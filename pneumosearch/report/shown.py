"""The report of a study as a value: printed it is a table, and a notebook shows the page."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pneumosearch._utils.atomic import write_output
from pneumosearch.records.trial import StudyRecord
from pneumosearch.report.page import study_page
from pneumosearch.report.summary import study_summary
from pneumosearch.report.tables import plain_text
from pneumosearch.storage.store import Store

_FRAME = '<iframe srcdoc="{page}" sandbox style="width: 100%; height: 48em; border: 1px solid #ccc"></iframe>'


@dataclass(frozen=True, repr=False)
class Report:
    """The report of a study at one moment."""

    record: StudyRecord
    html: str  # the page: one self-contained document, without scripts
    top: int  # best trials that are listed besides the baseline

    def __str__(self) -> str:
        """Return the table that `pneumosearch report` prints."""
        return plain_text(self.record, top=self.top)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the page in a frame, so that its styles stay out of the notebook."""
        return _FRAME.format(page=escape(self.html, quote=True))

    def as_dict(self) -> dict[str, Any]:
        """Return what `pneumosearch report --json` prints."""
        return study_summary(self.record)

    def save(self, path: str | Path) -> None:
        """Write the page to a file, completely or not at all.

        Raises:
            PneumosearchError: The file cannot be written.
        """
        write_output(Path(path), self.html)


def report_of(store: Store, name: str, *, top: int = 10, pictures: bool = True) -> Report:
    """Return the report of a study as it is now.

    Args:
        store: That holds the study.
        name: Name of the study.
        top: Best trials to list besides the baseline.
        pictures: Show the test images that the winner of a confirmation misclassified; without, they are named only.

    Raises:
        StoreError: There is no study of this name, or its confirmation cannot be read.
    """
    return Report(store.record(name), study_page(store, name, top=top, pictures=pictures), top)
