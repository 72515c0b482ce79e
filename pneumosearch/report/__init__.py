"""Reports: the same summary as a table, JSON, CSV or Markdown."""

import gc
import json
import sys
from pathlib import Path
from typing import Literal

from pneumosearch._utils.atomic import write_output
from pneumosearch.storage.store import Store

Format = Literal["table", "json", "csv", "markdown"]


def render(store: Store, name: str, format: Format, *, top: int, output: Path | None) -> None:
    """Print the report of a study, or write it to a file, whole or not at all.

    Raises:
        StoreError: No such study.
        PneumosearchError: The file cannot be written.
    """
    gc.disable()  # a third of the time goes into looking for cycles among many small objects that are all in use
    try:
        _render(store, name, format, top, output)
    finally:
        gc.enable()


def _render(store: Store, name: str, format: Format, top: int, output: Path | None) -> None:
    from pneumosearch.report import summary, tables

    record = store.record(name)
    if format == "table" and output is None:
        tables.print_report(record, top=top)
        return
    if format == "json":
        text = json.dumps(summary.study_summary(record), indent=2, allow_nan=False) + "\n"
    elif format == "csv":
        text = summary.csv_text(record)
    elif format == "markdown":
        text = tables.markdown(record, top=top)
    else:
        text = tables.plain_text(record, top=top)
    if output is None:
        sys.stdout.write(text)
        return
    write_output(output, text)
