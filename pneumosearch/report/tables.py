"""A study as Rich tables and as Markdown."""

import io
import os
import textwrap
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pneumosearch.config import RunSpec
from pneumosearch.intervals import wilson_interval
from pneumosearch.metrics import METRICS, Metric, floor_words, metric_name, shown
from pneumosearch.published import OTHER_FIGURES, PUBLISHED_COUNTS, PUBLISHED_TABLE, PublishedEpoch, published_at
from pneumosearch.records.dataset import PHANTOMS
from pneumosearch.records.earlier import informed_line
from pneumosearch.records.epoch import EpochMetrics, History
from pneumosearch.records.trial import StudyRecord, TrialRecord
from pneumosearch.report import battery
from pneumosearch.report.changes import differences_text, others_text
from pneumosearch.report.importance import importance
from pneumosearch.report.spread import folded, folds_text, repeated_text

N_TEST: Final = sum(PUBLISHED_COUNTS["test"])
_WIDTH: Final = 120  # of tables written to files
_HEADING: Final = 14  # characters of a line of a heading, so that it takes no room from the other columns


def phantom_warning() -> str:
    """Return the warning above all results on phantoms, as Rich markup."""
    return f"[bold yellow]{PHANTOMS}[/bold yellow]"


def points(difference: float) -> str:
    """Return a difference of two fractions in percentage points, with its sign."""
    return f"{100 * difference:+.1f}"


def percent(value: float | None) -> str:
    """Return a fraction as a percentage without the sign; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"


def epoch_headings(evaluated: str, kind: str) -> list[str]:
    """Return the headings of `epoch_table`.

    Args:
        evaluated: "validation" or "test": the images that the epochs are evaluated on.
        kind: As `DataDescription.shown_as` says; only "images" are compared with published results.
    """
    headings = ["epoch", "train %", f"{evaluated} %", "train loss", f"{evaluated} loss", "learning rate", "seconds"]
    return headings + ["published train / test %", "difference"] * (kind == "images")


def epoch_table(history: History, kind: str) -> Table:
    """Return the epochs as a table; for images it also has the published accuracies and the differences."""
    table = Table(box=None, padding=(0, 1))
    for heading in epoch_headings(history[0].evaluated, kind):
        table.add_column(heading, justify="right")
    for epoch in history:
        table.add_row(*epoch_cells(epoch, kind))
    return table


def epoch_cells(epoch: EpochMetrics, kind: str) -> list[str]:
    """Return the cells of one row of `epoch_table`."""
    accuracy = epoch.evaluation("accuracy")
    cells = [
        str(epoch.epoch),
        percent(epoch.train_accuracy),
        percent(accuracy),
        f"{epoch.train_loss:.4f}",
        f"{epoch.evaluation('loss'):.4f}",
        f"{epoch.learning_rate:.2g}",
        f"{epoch.seconds:.1f}",
    ]
    if kind == "images":
        row = published_at(epoch.epoch)
        cells.append(f"{percent(row.train_accuracy)} / {percent(row.test_accuracy)}" if row else "")
        cells.append(_differences(epoch, row) if row else "")
    return cells


def _differences(epoch: EpochMetrics, row: PublishedEpoch) -> str:
    """Return the differences from the published row; test accuracy is compared with test accuracy only."""
    train = points(epoch.train_accuracy - row.train_accuracy)
    test = "–" if epoch.test_accuracy is None else points(epoch.test_accuracy - row.test_accuracy)
    return f"{train} / {test}"


def comparison_table(history: History) -> Table:
    """Return the published table next to the same epochs of a training."""
    evaluated = history[0].evaluated if history else "test"
    table = Table(title="Published accuracy and this training's, by epoch (%)")
    headings = ("epoch", "published train", "train", "points", "published test", evaluated, "points", "95% interval")
    for heading in headings:
        table.add_column(heading, justify="right")
    by_epoch = {epoch.epoch: epoch for epoch in history}
    for row in PUBLISHED_TABLE:
        epoch = by_epoch.get(row.epoch)
        cells = ["–"] * 5
        if epoch:
            test = epoch.test_accuracy
            cells = [
                percent(epoch.train_accuracy),
                points(epoch.train_accuracy - row.train_accuracy),
                percent(epoch.evaluation("accuracy")),
                "–" if test is None else points(test - row.test_accuracy),
                "–" if test is None else wilson_text(test),
            ]
        table.add_row(str(row.epoch), percent(row.train_accuracy), *cells[:2], percent(row.test_accuracy), *cells[2:])
    return table


def wilson_text(accuracy: float, n: int = N_TEST) -> str:
    """Return the 95% Wilson interval of an accuracy on n test images, in percent."""
    low, high = wilson_interval(round(accuracy * n), n)
    return f"{percent(low)} to {percent(high)}"


def trials_table(record: StudyRecord, top: int, width: int = _WIDTH) -> Table:
    """Return the baseline and the best trials with their differences from the baseline.

    Args:
        record: The study.
        top: Number of best trials besides the baseline.
        width: Width of the console in characters; below 120, less important columns are left out.
    """
    metric = f"validation {metric_name(record.metric)}"
    table = Table(title=f"Study '{escape(record.name)}': the baseline and the best by {metric}")
    columns = trial_columns(record)
    left_out = set(_OPTIONAL) - ({"state"} if record.floor else set()) if width < _WIDTH else set()
    kept = [position for position, (heading, _) in enumerate(columns) if heading not in left_out]
    for heading, right in (columns[position] for position in kept):
        lines = textwrap.wrap(heading, _HEADING) if right else [heading]
        table.add_column("\n".join(lines), justify="right" if right else "left", overflow="fold", no_wrap=right)
    for cells in trial_rows(record, top):
        table.add_row(*(escape(cells[position]) for position in kept))
    return table


def trial_columns(record: StudyRecord) -> list[tuple[str, bool]]:
    """Return the headings of `trial_rows`, each with whether the column holds numbers."""
    searched = [] if record.metric in _ALWAYS_SHOWN else [(metric_name(record.metric), True)]
    searched += [(f"{metric_name(record.metric)} on repetition", True)] if _repeated(record) else []
    searched += [(f"{metric_name(record.metric)} over folds", True)] if folded(record) else []
    return [
        ("trial", True), ("state", False), *searched, ("validation %", True), ("AUC", True), ("train %", True),
        ("test % (95%)", True), ("epochs", True), ("minutes", True), ("differs from the baseline in", False),
    ]  # fmt: skip


#: Metrics that have a column in every study; any other objective gets an additional column.
_ALWAYS_SHOWN: Final = ("accuracy", "auc")
_OPTIONAL: Final = ("state", "train %", "epochs", "minutes")


def trial_rows(record: StudyRecord, top: int) -> list[list[str]]:
    """Return the rows of `trials_table`: the baseline, then the best trials in order."""
    return [_trial_cells(record, trial) for trial in record.leaders(top)]


def _trial_cells(record: StudyRecord, trial: TrialRecord) -> list[str]:
    judged = trial.judged
    n_test = sum(record.data.counts["test"])
    test = judged.test_accuracy if judged else None
    config = trial.run.config if trial.run else None
    baseline = (record.baseline and record.baseline.run) or RunSpec()
    searched = [] if record.metric in _ALWAYS_SHOWN else [_value(trial, record.metric)]
    searched += [repeated_text(trial, record.metric) or "–"] if _repeated(record) else []
    searched += [folds_text(trial, record.metric) or "–"] if folded(record) else []
    return [
        str(trial.number),
        trial.state + (", below the floor" if record.below_floor(trial) else ""),
        *searched,
        percent(judged.validation_accuracy if judged else None),
        "–" if judged is None or judged.validation_auc is None else f"{judged.validation_auc:.4f}",
        percent(judged.train_accuracy if judged else None),
        "sealed" if test is None else f"{percent(test)} ({wilson_text(test, n_test)})",
        f"{trial.n_epochs}/{config.epochs * len(trial.run.trainings)}" if trial.run and config else "–",
        f"{trial.seconds / 60:.1f}",
        differences_text(config, baseline.config, record.others) if config else "–",
    ]


def _repeated(record: StudyRecord) -> bool:
    return any(trial.repeated for trial in record.trials)


def _value(trial: TrialRecord, metric: Metric) -> str:
    return "–" if trial.value is None else shown(trial.value, metric)


def summary_lines(record: StudyRecord) -> list[str]:
    """Return one line each on the counts, the data, the importance and the test set."""
    lines = (counts_line, control_line, learnt_line, floor_line, data_line, importance_line, openings_line)
    texts = [others_text(record.others), *(line(record) for line in lines)]
    return [text for text in texts if text]


def counts_line(record: StudyRecord) -> str:
    """Return how many trials there are, in which states, and how long they trained."""
    counts = ", ".join(f"{record.count(state)} {state}" for state in ("complete", "pruned", "failed", "running"))
    seconds = sum(trial.seconds for trial in record.trials)
    trained = [trial for trial in record.trials if trial.duplicate_of is None]
    epochs = sum(trial.n_epochs for trial in trained)
    n, repeated = len(record.trials), len(record.trials) - len(trained)
    passed_over = record.count("passed over")
    screened = [trial.screening for trial in trained if trial.screening]
    repeats = f" {repeated} of them repeated a configuration and were not trained." if repeated else ""
    if passed_over:
        repeats += f" {passed_over} were over budget and not trained (state: passed over)."
    if screened:
        size = screened[0].image_size
        repeats += f" {len(screened)} began with a low-resolution rung: one epoch on images of {size} pixels."
    return f"{n} trial{'s' * (n != 1)}: {counts}; {epochs} epochs in {seconds / 60:.1f} min of training.{repeats}"


def control_line(record: StudyRecord) -> str:
    """Return what the search and what its `others` gave, as the control tells; empty where the study has none."""
    control, baseline = record.control, record.baseline
    if control is None:
        return ""
    best = next((trial for trial in record.ranking() if trial != baseline), None)
    text = f"Control (trial {control.number}, the baseline's values trained like the others):"
    if control.value is None or best is None:
        return f"{text} {control.state}, so nothing tells yet what the search gave."
    text += f" {_value(control, record.metric)}"
    if baseline is not None and baseline.value is not None:
        text += f", {_ahead(control, baseline, record.metric)} on the baseline without any search"
    if best.number == control.number:
        return f"{text}. The search has found nothing better yet."
    by_repetition = bool(best.repeated and control.repeated)
    gain = _ahead(best, control, record.metric, by_repetition=by_repetition)
    lead = f"trial {best.number} differs from it by {gain}"
    luck = "partly by luck: confirm trains both again"
    return f"{text}. On repetition {lead}." if by_repetition else f"{text}. In the search {lead}, {luck}."


def _ahead(trial: TrialRecord, other: TrialRecord, metric: Metric, *, by_repetition: bool = False) -> str:
    """Return by how much a trial's figure is larger than another's, with the unit."""
    figures = [fmean(each.repeated) if by_repetition else each.value or 0.0 for each in (trial, other)]
    difference = figures[0] - figures[1]
    return f"{points(difference)} points" if METRICS[metric].percent else f"{difference:+.4f}"


def learnt_line(record: StudyRecord) -> str:
    """Return which earlier studies informed the sampler, and what was passed over; empty where there were none."""
    return informed_line(record.informed_by)


def floor_line(record: StudyRecord) -> str:
    """Return the study's floor, and how many trials are below it; empty where it has none."""
    if not record.floor:
        return ""
    ranking = record.ranking()
    below = sum(record.below_floor(trial) for trial in ranking)
    judged = f"{floor_words(record.floor)} at the kept epoch"
    count = f"{below} of {len(ranking)} complete trials {'is' if below == 1 else 'are'} below it"
    return f"Floor: {judged}; {count}{' and ranked behind all others' if 0 < below < len(ranking) else ''}."


def data_line(record: StudyRecord) -> str:
    """Return the numbers of training and evaluation images, and the protocol."""
    data, protocol = record.data, record.spec.get("protocol")
    images = f"{data.n_train} training, {data.n_evaluation} evaluation images"
    if record.n_folds:
        images += f" in the first of {record.n_folds} folds, each of which judges in its turn"
    return f"Data: {data.kind} {data.fingerprint} ({images}; {protocol} protocol)."


def importance_line(record: StudyRecord) -> str:
    """Return the importance of each hyperparameter in one line; empty if `importance` is empty."""
    shares = importance(record)
    return "Importance (PED-ANOVA): " + ", ".join(f"{k} {v:.0%}" for k, v in shares.items()) + "." if shares else ""


def openings_line(record: StudyRecord) -> str:
    """Return how often the test set was opened, and by which studies."""
    n = len(record.test_openings)
    if not n:
        return "The test set was never opened from this store."
    by_this = sum(opening.study == record.name for opening in record.test_openings)
    others = sorted({opening.study for opening in record.test_openings if opening.study != record.name})
    by = [f"{by_this} by this study"] + [f"{n - by_this} by {', '.join(others)}"] * bool(others)
    return f"The test set was opened {n} time{'s' * (n > 1)} from this store: {', '.join(by)}."


def published_lines() -> list[str]:
    """Return one line each on the published table, the other published results, and the width of an interval."""
    rows = ", ".join(f"{r.epoch}: {percent(r.train_accuracy)}/{percent(r.test_accuracy)}" for r in PUBLISHED_TABLE)
    others = "; ".join(f"{figures.name} {percent(figures.accuracy)}" for figures in OTHER_FIGURES)
    half_width = "With 624 test images, the 95% interval of an accuracy of 86% is about ±2.7 points."
    return [f"Published train/test accuracy by epoch (%): {rows}.", f"Others on the same test images (%): {others}.",
            half_width]  # fmt: skip


def standard_output() -> Console:
    """Return a console on standard output; 120 characters wide if that is not a terminal and COLUMNS is not set."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDTH)


def print_report(record: StudyRecord, *, top: int, console: Console | None = None) -> None:
    """Print the report on a console, by default standard output; `top` is the number of best trials."""
    out = console or standard_output()
    if record.data.kind == "phantoms":
        out.print(phantom_warning())
    if record.data.beside_published:
        if record.baseline and record.baseline.history:
            out.print(comparison_table(record.baseline.history))
        for line in published_lines():
            out.print(line, highlight=False)
    out.print(trials_table(record, top, out.width))
    by_battery = battery.battery_table(record, top, out.width)
    if by_battery is not None:
        out.print(by_battery)
    for line in summary_lines(record):
        out.print(line, highlight=False, markup=False)


def plain_text(record: StudyRecord, *, top: int) -> str:
    """Return the report as plain text for a file; `top` is the number of best trials."""
    text = io.StringIO()
    print_report(record, top=top, console=Console(file=text, width=_WIDTH, color_system=None))
    return text.getvalue()


def markdown(record: StudyRecord, *, top: int) -> str:
    """Return the report as Markdown; `top` is the number of best trials."""
    lines = [f"# Study {record.name}", ""]
    if record.data.kind == "phantoms":
        lines += [f"**{PHANTOMS}**", ""]
    if record.data.beside_published:
        lines += [f"- {line}" for line in published_lines()] + [""]
        if record.baseline and record.baseline.history:
            lines += [*_markdown_rows(*table_cells(comparison_table(record.baseline.history))), ""]
    headings = [heading for heading, _ in trial_columns(record)]
    lines += [*_markdown_rows(headings, trial_rows(record, top)), ""]
    if trials := battery.judged_trials(record, top):
        lines += ["Under the battery of crafted shifts:", ""]
        lines += [
            *_markdown_rows(battery.battery_headings(record, trials), battery.battery_rows(trials)),
            "",
            battery.NOTE,
            "",
        ]
    return "\n".join([*lines, *(f"- {line}" for line in summary_lines(record))]) + "\n"


def table_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of a table."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return [str(column.header) for column in table.columns], [list(row) for row in zip(*columns, strict=True)]


def _markdown_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
