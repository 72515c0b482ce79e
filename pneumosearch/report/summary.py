"""A study as plain values for JSON and CSV."""

import csv
import io
import statistics
from typing import Any, get_args

from pneumosearch.config import TrialConfig
from pneumosearch.errors import printable
from pneumosearch.intervals import sample_deviation
from pneumosearch.metrics import METRICS, Metric, of_battery
from pneumosearch.published import PUBLISHED_TABLE
from pneumosearch.records.epoch import kept_epoch
from pneumosearch.records.trial import State, StudyRecord, TrialRecord
from pneumosearch.report.battery import battery_summary
from pneumosearch.report.importance import importance


def study_summary(record: StudyRecord) -> dict[str, Any]:
    """Return the report of a study for JSON.

    Accuracies are fractions in [0, 1]. `reference` is the published table, empty where the classes are a user's own.
    `test_openings` counts how often the test set of this data was opened from this store.
    """
    ranking = record.ranking()
    return {
        "study": record.name,
        "metric": record.metric,
        "data": record.data.model_dump(mode="json"),
        "protocol": record.spec.get("protocol"),
        "n_folds": record.n_folds,
        "spec": record.spec,
        "reference": reference() if record.data.shown_as != "own images" else [],
        "baseline": trial_summary(record.baseline, record) if record.baseline else None,
        "control": trial_summary(record.control, record) if record.control else None,
        "trials": [trial_summary(trial, record) for trial in record.trials],
        "best": trial_summary(ranking[0], record) if ranking else None,
        "below_floor": sum(record.below_floor(trial) for trial in ranking) if record.floor else None,
        "counts": {state: record.count(state) for state in get_args(State)},
        "informed_by": [study.summary() for study in record.informed_by],
        "importance": importance(record),
        "test_openings": len(record.test_openings),
        "test_opening_log": [opening.model_dump() for opening in record.test_openings],
    }


def reference() -> list[dict[str, float]]:
    """Return the published table."""
    return [
        {"epoch": row.epoch, "test_accuracy": row.test_accuracy, "train_accuracy": row.train_accuracy}
        for row in PUBLISHED_TABLE
    ]


def trial_summary(trial: TrialRecord, record: StudyRecord) -> dict[str, Any]:
    """Return a trial for JSON; its accuracies are those of the kept epoch, with folds their means over these."""
    kept, judged = trial.kept, trial.judged
    return {
        "number": trial.number,
        "state": trial.state,
        "value": trial.value,
        "below_floor": record.below_floor(trial) if record.floor and trial.state == "complete" else None,
        "config": trial.run.config.model_dump() if trial.run else None,
        "changes": trial.run.config.changes() if trial.run else None,
        "seed": trial.run.seed if trial.run else None,
        "precision": trial.run.precision if trial.run else None,
        "n_parameters": trial.n_parameters,
        "epochs_run": trial.n_epochs,
        "kept_epoch": kept.epoch if kept else None,
        "train_accuracy": judged.train_accuracy if judged else None,
        "validation_accuracy": judged.validation_accuracy if judged else None,
        "validation_auc": judged.validation_auc if judged else None,
        "test_accuracy": judged.test_accuracy if judged else None,
        "battery": battery_summary(trial),
        "seconds": trial.seconds,
        "screening": trial.screening.model_dump() if trial.screening else None,
        "failure": trial.failure,
        "passed_over": trial.passed_over,
        "duplicate_of": trial.duplicate_of,
        "repeated": list(trial.repeated),
        "folds": fold_summaries(trial, record.metric),
        "earlier_trials": list(trial.earlier),
        "history": history_summary(trial),
    }


def fold_summaries(trial: TrialRecord, metric: Metric) -> list[dict[str, Any]]:
    """Return each fold that a trial has begun for JSON; `history` of a trial is that of its first fold."""
    if trial.run is None or len(trial.run.trainings) == 1:
        return []
    keep, begun = trial.run.config.keep, zip(trial.run.trainings, trial.histories, strict=False)
    return [
        {
            "fold": training.position,
            "seed": training.seed,
            "epochs_run": len(history),
            "kept_epoch": kept_epoch(history, keep).epoch,
            "value": kept_epoch(history, keep).evaluation(metric),
            "history": [epoch.model_dump() for epoch in history],
        }
        for training, history in begun
    ]


def history_summary(trial: TrialRecord) -> list[dict[str, Any]]:
    """Return the epochs for JSON; metrics that the protocol does not measure are null."""
    return [epoch.model_dump() for epoch in trial.history]


def baseline_summary(trial: TrialRecord) -> dict[str, Any]:
    """Return the result of the baseline command."""
    return {
        "n_parameters": trial.n_parameters,
        "protocol": trial.run.protocol if trial.run else None,
        "seed": trial.run.seed if trial.run else None,
        "data": trial.data.model_dump(mode="json") if trial.data else None,
        "versions": trial.versions,
        "history": history_summary(trial),
    }


def csv_text(record: StudyRecord) -> str:
    """Return CSV with a row for each trial, hyperparameters included; cells are safe for spreadsheets."""
    rows = [trial_row(trial, record) for trial in record.trials]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["number"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: spreadsheet_safe(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def spreadsheet_safe(value: Any) -> Any:
    """Return a value with unprintable characters removed, quoted if a spreadsheet would run it as a formula."""
    if not isinstance(value, str):
        return value
    return ("'" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else "") + printable(value)


def trial_row(trial: TrialRecord, record: StudyRecord) -> dict[str, Any]:
    """Return a trial as a row of a table: `trial_summary` without what has many values, and all hyperparameters."""
    summary = trial_summary(trial, record)
    config = summary.pop("config") or {}
    by_battery = summary["battery"] or {}
    for key in ("history", "changes", "screening", "battery", "folds"):
        summary.pop(key)
    summary |= {name: by_battery.get(name) for name in METRICS if of_battery(name)}
    summary["metric"] = record.metric
    summary["repeated"] = statistics.fmean(trial.repeated) if trial.repeated else None
    summary["n_repeated"] = len(trial.repeated)
    folds = [epoch.evaluation(record.metric) for epoch in trial.kept_of_folds]
    summary["deviation_of_folds"], summary["n_folds"] = sample_deviation(folds) if folds else None, len(folds)
    summary["screening_auc"] = trial.screening.epoch.evaluation("auc") if trial.screening else None
    return {**summary, **{name: config.get(name) for name in TrialConfig.model_fields}}
