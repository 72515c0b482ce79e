"""A study as one self-contained HTML page: no other file, no network access, no script."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from pneumosearch._utils.atomic import write_output
from pneumosearch._utils.collector import paused_collector
from pneumosearch._utils.jinja import data_uri, template
from pneumosearch.metrics import metric_name, shown
from pneumosearch.records.confirmation import Confirmation
from pneumosearch.records.dataset import PHANTOMS
from pneumosearch.records.trial import StudyRecord, TrialRecord
from pneumosearch.report import figures_parameters, figures_search, reproduce, tables
from pneumosearch.report.battery import NOT_JUDGED
from pneumosearch.report.battery_view import battery_view
from pneumosearch.report.changes import others_text
from pneumosearch.report.confirmation_view import confirmation_view
from pneumosearch.report.importance import importance
from pneumosearch.report.latest_confirmation import MisclassifiedImage, latest_confirmation, misclassified_images
from pneumosearch.report.spread import folds_text, repeated_text
from pneumosearch.report.training_images import training_images
from pneumosearch.storage.store import Store

_MAX_REASONS: Final = 50  # listed trials without a result


def write_page(store: Store, name: str, path: Path, *, top: int, pictures: bool = True) -> None:
    """Write the page of study `name` to `path`, completely or not at all.

    Args:
        store: Store that holds the study.
        name: Name of the study.
        path: File to write; missing folders are created.
        top: Number of best trials to list besides the baseline.
        pictures: Whether to show the test images that the winner misclassified; if False, the page only names them.

    Raises:
        StoreError: The store has no study of this name, or its confirmation cannot be read.
        PneumosearchError: The file cannot be written.
    """
    write_output(path, study_page(store, name, top=top, pictures=pictures))


@paused_collector()
def study_page(store: Store, name: str, *, top: int, pictures: bool = True) -> str:
    """Return the page of study `name` as HTML; arguments and errors as of `write_page`."""
    confirmation = latest_confirmation(store, name)
    misclassified = misclassified_images(store, name)
    if not pictures:
        misclassified = [replace(image, png=None) for image in misclassified]
    replicates = _replicates(store, confirmation)
    return page(store.record(name), confirmation, misclassified, replicates, top=top)


def _replicates(store: Store, confirmation: Confirmation | None) -> tuple[TrialRecord, ...]:
    """Return the trials of the confirmation's study of replicates; none where that study was deleted."""
    if confirmation is None or confirmation.replicates_study not in store.names():
        return ()
    return store.record(confirmation.replicates_study).trials


def page(
    record: StudyRecord,
    confirmation: Confirmation | None,
    misclassified: Sequence[MisclassifiedImage] = (),
    replicates: Sequence[TrialRecord] = (),
    *,
    top: int,
) -> str:
    """Return the page of a study as HTML.

    Args:
        record: The study.
        confirmation: Its latest confirmation, or None.
        misclassified: Test images that the winner of the confirmation misclassified.
        replicates: Trials of the confirmation's study of replicates.
        top: Number of best trials to list besides the baseline.
    """
    return template("page.html").render(
        phantoms=PHANTOMS if record.data.kind == "phantoms" else None,
        study=record,
        version=metadata.version("pneumosearch"),
        written=datetime.now(UTC).isoformat(timespec="minutes"),
        lines=_lines(record),
        candidate=_candidate(record),
        confirm_command=reproduce.command("confirm", "--name", record.name, "--data", record.data.folder_name),
        confirmation=confirmation_view(confirmation, record.data, misclassified) if confirmation else None,
        published=_published(record),
        battery=battery_view(record, top, confirmation, replicates),
        not_judged=NOT_JUDGED if record.purpose == "search" else None,
        search=_search_figures(record),
        training_images=training_images(record),
        trials=_trials(record, top),
        reproduce=_reproduce(record),
        data_uri=data_uri,
    )


def _lines(record: StudyRecord) -> list[str]:
    lines = (
        tables.counts_line, tables.control_line, tables.learnt_line, tables.floor_line, tables.data_line,
        tables.openings_line,
    )  # fmt: skip
    return [text for line in lines if (text := line(record))]


def _candidate(record: StudyRecord) -> str | None:
    """Return a sentence on the best trial of a search and its limits; None if there is no such trial."""
    ranking, baseline = record.ranking(), record.baseline
    if record.purpose != "search" or not ranking or ranking[0].value is None:
        return None
    best, metric = ranking[0], f"{figures_search.evaluated(record)} {metric_name(record.metric)}"
    over_folds = folds_text(best, record.metric)
    figure = f"{over_folds} over its folds" if over_folds else shown(best.value or 0.0, record.metric)
    text = f"The best trial is {best.number}, with {metric} {figure}"
    if baseline and baseline.value is not None and baseline.number != best.number:
        text += f"; the baseline reached {shown(baseline.value, record.metric)}"
    if record.below_floor(best):
        text += "; it is below the floor of the study, as every complete trial is"
    if best.repeated:
        on_repetition = repeated_text(best, record.metric)
        return f"{text}. On other seeds and folds it has {on_repetition}, which puts it before the other finalists."
    n = len(ranking)
    each = "one seed each" if not over_folds else f"{len(best.kept_of_folds)} folds each"
    several = f"the best of {n} complete trials with {each}: part of its lead is chance (the winner's curse)."
    return f"{text}. It is {several if n > 1 else 'the only complete trial.'}"


def _published(record: StudyRecord) -> dict[str, Any] | None:
    """Return the comparison of the baseline with the published table; None where the images are not comparable."""
    if not record.data.beside_published:
        return None
    history = record.baseline.history if record.baseline else ()
    return {
        "table": tables.table_cells(tables.comparison_table(history)),
        "figure": figures_search.published_curve(history) if history else None,
        "lines": tables.published_lines()[1:],
    }


def _search_figures(record: StudyRecord) -> dict[str, Any]:
    shares = importance(record)
    order = list(shares)
    curves = [figures_search.learning_curves(record, "accuracy"), figures_search.learning_curves(record, "auc")]
    return {
        "history": figures_search.history(record) if record.purpose == "search" else None,
        "curves": [curve for curve in curves if curve],
        "importance": figures_parameters.importance_bars(shares),
        "slices": figures_parameters.slices(record, order),
        "parallel": figures_parameters.parallel_coordinates(record, order),
    }


def _trials(record: StudyRecord, top: int) -> dict[str, Any]:
    failed = [trial for trial in record.trials if trial.state in ("failed", "passed over")]
    reasons = [[str(trial.number), trial.state, _reason(trial)] for trial in failed]
    return {
        "headings": [heading for heading, _ in tables.trial_columns(record)],
        "rows": tables.trial_rows(record, top),
        "reasons": reasons[:_MAX_REASONS],
        "others": others_text(record.others),
        "more": len(reasons) - len(reasons[:_MAX_REASONS]),
    }


def _reason(trial: TrialRecord) -> str:
    return trial.failure or trial.passed_over or "no reason was stored"


def _reproduce(record: StudyRecord) -> dict[str, Any]:
    return {
        "commands": reproduce.commands(record),
        "versions": reproduce.versions(record),
        "seeds": reproduce.seeds(record),
        "study_file": reproduce.study_file(record) if record.purpose == "search" else None,
        "openings_line": tables.openings_line(record),
        "openings": [
            [o.time, o.study, "–" if o.trial is None else str(o.trial), o.why, o.test_fingerprint]
            for o in record.test_openings
        ],
    }
