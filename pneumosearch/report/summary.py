"""A study as plain values, for JSON and CSV."""

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

from pneumosearch.config import TrialConfig
from pneumosearch.errors import printable
from pneumosearch.records import State, StudyRecord, TrialRecord
from pneumosearch.reference import PUBLISHED_TABLE


def study_summary(record: StudyRecord) -> dict[str, Any]:
    """Return the report: `study, data, protocol, reference, baseline, trials, best, test_openings` and more.

    Accuracies are fractions. `test_openings` counts the runs of this store that read this data's test folder.
    """
    ranking = record.ranking()
    return {
        "study": record.name,
        "metric": record.metric,
        "data": record.data.model_dump(mode="json"),
        "protocol": record.spec.get("protocol"),
        "spec": record.spec,
        "reference": reference(),
        "baseline": trial_summary(record.baseline) if record.baseline else None,
        "trials": [trial_summary(trial) for trial in record.trials],
        "best": trial_summary(ranking[0]) if ranking else None,
        "counts": {state: record.count(state) for state in get_args(State)},
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


def trial_summary(trial: TrialRecord) -> dict[str, Any]:
    """Return one trial; its accuracies are those of the kept epoch."""
    kept = trial.kept
    return {
        "number": trial.number,
        "state": trial.state,
        "value": trial.value,
        "config": trial.run.config.model_dump() if trial.run else None,
        "changes": trial.run.config.changes() if trial.run else None,
        "seed": trial.run.seed if trial.run else None,
        "precision": trial.run.precision if trial.run else None,
        "n_parameters": trial.n_parameters,
        "epochs_run": len(trial.history),
        "kept_epoch": kept.epoch if kept else None,
        "train_accuracy": kept.train_accuracy if kept else None,
        "validation_accuracy": kept.validation_accuracy if kept else None,
        "validation_auc": kept.validation_auc if kept else None,
        "test_accuracy": kept.test_accuracy if kept else None,
        "seconds": trial.seconds,
        "screening": trial.screening.model_dump() if trial.screening else None,
        "failure": trial.failure,
        "passed_over": trial.passed_over,
        "duplicate_of": trial.duplicate_of,
        "earlier_trials": list(trial.earlier),
        "history": history_summary(trial),
    }


def history_summary(trial: TrialRecord) -> list[dict[str, Any]]:
    """Return the epochs; figures that the protocol does not measure are null."""
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


def importance(record: StudyRecord) -> dict[str, float]:
    """Return each searched hyperparameter's share of importance (PED-ANOVA), largest first.

    Empty with fewer than four complete trials, or where all have one value. Source: Watanabe, Bansal, Hutter,
    "PED-ANOVA", IJCAI 2023.
    """
    searched = record.spec.get("space")
    results = [(trial.run.config, trial.value) for trial in record.trials if trial.value is not None and trial.run]
    if not isinstance(searched, dict) or len(results) < 4 or len({value for _, value in results}) < 2:
        return {}
    with _without_random_forests():
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        shares = get_param_importances(_in_memory(record, results), evaluator=PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in shares.items()}


@contextmanager
def _without_random_forests() -> Iterator[None]:
    """Keep scikit-learn, which `optuna.importance` imports for another evaluator, from costing more than a second."""
    if "optuna.importance._fanova" in sys.modules or "sklearn" in sys.modules:
        yield
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # Optuna takes it as not installed
    try:
        yield
    finally:
        del sys.modules["sklearn"]


def _in_memory(record: StudyRecord, results: list[tuple[TrialConfig, float]]) -> Any:
    """Build the study that Optuna's evaluators want from what the store told."""
    import optuna

    from pneumosearch.metrics import direction
    from pneumosearch.studyfile import checked_spec

    space = checked_spec(dict(record.spec), "stored study").search_space()
    ranges = {name: dimension.distribution() for name, dimension in space.dimensions.items()}
    study = optuna.create_study(direction=direction(record.metric))
    for config, value in results:
        params = space.chosen(config)
        distributions = {name: ranges[name] for name in params}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return study


def csv_text(record: StudyRecord) -> str:
    """Return one line a trial, hyperparameters included; text that a spreadsheet would run is quoted."""
    rows = []
    for trial in record.trials:
        summary = trial_summary(trial)
        config = summary.pop("config") or {}
        for key in ("history", "changes", "screening"):
            summary.pop(key)
        summary["screening_auc"] = trial.screening.epoch.evaluation("auc") if trial.screening else None
        rows.append({**summary, **{name: config.get(name) for name in TrialConfig.model_fields}})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["number"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: harmless(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def harmless(value: Any) -> Any:
    """Quote text that a spreadsheet would run as a formula, and leave out what cannot be printed."""
    if not isinstance(value, str):
        return value
    return ("'" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else "") + printable(value)
