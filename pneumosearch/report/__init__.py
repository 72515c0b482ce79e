"""Reports of a study: tables, JSON, CSV, Markdown, and an HTML page with figures.

The command line comes in. Nothing here imports TensorFlow.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pneumosearch._utils.atomic import write_output
from pneumosearch._utils.collector import paused_collector

if TYPE_CHECKING:
    from pneumosearch.storage.store import Store

Format = Literal["table", "json", "csv", "markdown"]


@paused_collector()
def render(store: "Store", name: str, format: Format, *, top: int, output: Path | None) -> None:
    """Print the report of a study, or write it to a file.

    Args:
        store: Store that holds the study.
        name: Name of the study.
        format: Form of the report.
        top: Number of best trials to list besides the baseline; not used by "json" and "csv", which list all.
        output: File to write; standard output if None. The file is written completely or not at all.

    Raises:
        StoreError: The store has no study of this name.
        PneumosearchError: The file cannot be written.
    """
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
