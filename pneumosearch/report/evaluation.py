"""An evaluation on a labelled folder as Rich tables, as plain values, and as an HTML page."""

from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pneumosearch._utils.atomic import write_output
from pneumosearch._utils.jinja import template
from pneumosearch.inference.scoring import scored
from pneumosearch.records.classes import class_words, same_classes
from pneumosearch.records.dataset import PHANTOMS
from pneumosearch.records.evaluation import Evaluation, Figures, Group, Interval, JudgedImages
from pneumosearch.report.curves import confusion
from pneumosearch.report.figures_curves import Curve, calibration_diagram, roc_curves
from pneumosearch.report.tables import percent, phantom_warning, standard_output

#: Figures by field, each with its heading and whether it is shown in per cent.
_COLUMNS: Final = {
    "accuracy": ("accuracy %", True),
    "balanced_accuracy": ("balanced %", True),
    "sensitivity": ("sensitivity %", True),
    "specificity": ("specificity %", True),
    "auc": ("AUC", False),
    "log_loss": ("log loss", False),
}
INTERVALS: Final = (
    "95% intervals: Wilson's of accuracy, sensitivity and specificity; by bootstrap over patients of the others."
)


class EvaluationTable(NamedTuple):
    """A table of the evaluation: one row of figures a group."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def evaluation_tables(found: Evaluation) -> list[EvaluationTable]:
    """Return the figures of all images and of each group at 0.5, and at the network's own threshold if it has one."""
    groups = [found.total, *found.groups]
    headings = ["images in", *found.classes, *(heading for heading, _ in _COLUMNS.values())]
    tables = [_table("Threshold 0.5", headings, [(group, group.at_half) for group in groups])]
    own = [(group, group.at_threshold) for group in groups if group.at_threshold is not None]
    if own:
        tables.append(_table(f"The network's own threshold, {found.threshold:.3f}", headings, own))
    return tables


def _table(title: str, headings: list[str], rows: list[tuple[Group, Figures]]) -> EvaluationTable:
    return EvaluationTable(title, headings, [_row(group, figures) for group, figures in rows])


def _row(group: Group, figures: Figures) -> list[str]:
    counts = [f"{n:,}" for n in group.counts.values()]
    return [group.name, *counts, *(_cell(getattr(figures, name), per) for name, (_, per) in _COLUMNS.items())]


def _cell(interval: Interval | None, in_percent: bool) -> str:
    if interval is None:
        return "–"
    value, low, high = _texts(interval, in_percent)
    return f"{value}\n{low}–{high}"


def _texts(interval: Interval, in_percent: bool) -> list[str]:
    values = (interval.value, interval.low, interval.high)
    return [percent(value) if in_percent else f"{value:.3f}" for value in values]


def evaluation_lines(found: Evaluation) -> list[str]:
    """Return what a reader must know beside the figures, a sentence each."""
    total = found.total
    n = sum(total.counts.values())
    lines = [f"{n:,} images of {total.patients:,} patients by their names. {INTERVALS}"]
    if not same_classes(found.classes, found.folder_classes):
        pairs = zip(found.folder_classes, found.classes, strict=True)
        lines.append("Class folders: " + ", ".join(f"{there} stands for {name}" for there, name in pairs) + ".")
    if not found.known:
        lines.append(
            "The images of the network's study are not at hand: whether some of these images trained it, or are in its "
            "sealed test folder, is unknown. --data names that study's folder."
        )
    if total.trained_on:
        by = ", ".join(f"{group.trained_on:,} in {group.name}" for group in found.groups if group.trained_on)
        lines.append(
            f"{total.trained_on:,} of the {n:,} images trained the network or chose it{f' ({by})' * bool(by)}: on them "
            "it looks better than it is."
        )
    if found.n_sealed:
        lines.append(f"{found.n_sealed:,} images of the study's sealed test folder were passed over.")
    if found.n_unreadable:
        lines.append(f"{found.n_unreadable:,} images cannot be read and were left out.")
    if total.unlike:
        lines.append(f"{total.unlike:,} images look very different from those of the training.")
    return [*lines, f"{found.warning.capitalize()}."]


def evaluation_summary(found: Evaluation) -> dict[str, Any]:
    """Return the evaluation for JSON."""
    return found.model_dump(mode="json")


def print_evaluation(found: Evaluation, console: Console | None = None) -> None:
    """Print the evaluation on a console, by default standard output."""
    out = console or standard_output()
    if found.kind == "phantoms":
        out.print(phantom_warning())
    for each in evaluation_tables(found):
        table = Table(title=each.title)
        for position, heading in enumerate(each.headings):
            table.add_column(escape(heading), justify="right" if position else "left", overflow="fold")
        for row in each.rows:
            table.add_row(*map(escape, row))
        out.print(table)
    for line in evaluation_lines(found):
        out.print(line, highlight=False, markup=False)


def write_page(found: Evaluation, images: JudgedImages, path: Path) -> None:
    """Write the page, completely or not at all. Raises `PneumosearchError` where the file cannot be written."""
    write_output(path, page(found, images))


def page(found: Evaluation, images: JudgedImages) -> str:
    """Return the evaluation as one self-contained HTML page.

    Args:
        found: The evaluation.
        images: Its single images.
    """
    words = class_words(found.classes)
    curve = Curve("the network", images.labels, images.probabilities, images.patients,
                  scored(images.labels, images.probabilities, 0.5))  # fmt: skip
    drawings = (
        roc_curves([curve], f"ROC curve on {len(images.labels)} images"),
        calibration_diagram([curve], words[1], "Calibration"),
    )
    sealed = [[name, "in the study's sealed test folder"] for name in found.sealed]
    return template("evaluation.html").render(
        found=found,
        folder=Path(found.folder).name or found.folder,  # the page may be shared, and the rest of the path is private
        phantoms=PHANTOMS if found.kind == "phantoms" else None,
        version=found.version,
        written=found.time,
        words=words,
        tiles=[_tile(name, getattr(found.total.at_half, name)) for name in _TILES],
        lines=evaluation_lines(found),
        tables=evaluation_tables(found),
        drawings=drawings,
        confusions=[_confusion(images, threshold) for threshold in dict.fromkeys((0.5, found.threshold))],
        left_out=sealed + [[name, reason] for name, reason in found.unreadable.items()],
    )


_TILES: Final = ("accuracy", "sensitivity", "specificity", "auc")


def _tile(name: str, interval: Interval) -> tuple[str, str, str]:
    heading, in_percent = _COLUMNS[name]
    value, low, high = _texts(interval, in_percent)
    unit = " %" if in_percent else ""
    return heading.removesuffix(" %"), value + unit, f"threshold 0.5; 95% from {low} to {high}"


def _confusion(images: JudgedImages, threshold: float) -> dict[str, Any]:
    counts = confusion(images.labels, images.probabilities, threshold)
    return {"title": f"Numbers of images, threshold {threshold:.3g}", "counts": counts}
