"""A study as one HTML page that needs nothing else: no network, no script."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from pneumosearch._utils.atomic import write_output
from pneumosearch._utils.jinja import data_uri, template
from pneumosearch.metrics import metric_name, shown
from pneumosearch.records.confirmation import Confirmation
from pneumosearch.records.dataset import PHANTOMS
from pneumosearch.records.trial import StudyRecord, TrialRecord
from pneumosearch.report import figures_parameters, figures_search, reproduce, tables
from pneumosearch.report.confirmation_view import confirmation_view
from pneumosearch.report.importance import importance
from pneumosearch.report.latest_confirmation import WrongPicture, latest_confirmation, wrong_pictures
from pneumosearch.storage.store import Store

_MOST_REASONS: Final = 50  # failed trials that are listed


def write_page(store: Store, name: str, path: Path, *, top: int, pictures: bool = True) -> None:
    """Write the page of study `name` to `path`, whole or not at all.

    Args:
        store: Where the study is.
        name: Of the study.
        path: Of the page; its folder is made.
        top: How many of the best trials are listed.
        pictures: Show the test images that the winner calls wrongly; otherwise they are only named.

    Raises:
        StoreError: No such study, or a confirmation that cannot be read.
        PneumosearchError: The file cannot be written.
    """
    confirmation = latest_confirmation(store, name)
    wrong = wrong_pictures(store, name)
    if not pictures:
        wrong = [replace(picture, png=None) for picture in wrong]
    text = page(store.record(name), confirmation, wrong, top=top)
    write_output(path, text)


def page(
    record: StudyRecord, confirmation: Confirmation | None, pictures: Sequence[WrongPicture] = (), *, top: int
) -> str:
    """Return the page of a study.

    Args:
        record: The study.
        confirmation: The newest one, where there is one.
        pictures: Of test images that its winner called wrongly.
        top: How many of the best trials are listed.
    """
    return template("page.html").render(
        phantoms=PHANTOMS if record.data.kind == "phantoms" else None,
        study=record,
        version=metadata.version("pneumosearch"),
        written=datetime.now(UTC).isoformat(timespec="minutes"),
        lines=[tables.counts_line(record), tables.data_line(record), tables.openings_line(record)],
        candidate=_candidate(record),
        confirm_command=reproduce.command("confirm", "--name", record.name, "--data", record.data.folder_name),
        confirmation=confirmation_view(confirmation, record.data.kind, pictures) if confirmation else None,
        published=_published(record),
        search=_search_figures(record),
        trials=_trials(record, top),
        again=_again(record),
        data_uri=data_uri,
    )


def _candidate(record: StudyRecord) -> str | None:
    """Say what the search's best is, and how little that says; None of a baseline and where nothing is complete."""
    ranking, baseline = record.ranking(), record.baseline
    if record.purpose != "search" or not ranking or ranking[0].value is None:
        return None
    best, metric = ranking[0], f"{figures_search.evaluated(record)} {metric_name(record.metric)}"
    text = f"The candidate is trial {best.number} with {shown(best.value or 0.0, record.metric)} of {metric}"
    if baseline and baseline.value is not None and baseline.number != best.number:
        text += f"; the baseline has {shown(baseline.value, record.metric)}"
    n = len(ranking)
    return f"{text}. It is the best of {n} complete trial{'s' * (n != 1)} with one seed each: part of its lead is luck."


def _published(record: StudyRecord) -> dict[str, Any] | None:
    """Return the published table beside the baseline; on phantoms there is nothing to compare."""
    if record.data.kind == "phantoms":
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
        "reasons": reasons[:_MOST_REASONS],
        "more": len(reasons) - len(reasons[:_MOST_REASONS]),
    }


def _reason(trial: TrialRecord) -> str:
    return trial.failure or trial.passed_over or "no reason was written down"


def _again(record: StudyRecord) -> dict[str, Any]:
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
