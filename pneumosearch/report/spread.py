"""Mean and deviation of a figure that several trainings of one configuration have."""

import statistics
from collections.abc import Sequence

from pneumosearch.intervals import sample_deviation
from pneumosearch.metrics import Metric, shown
from pneumosearch.records.trial import StudyRecord, TrialRecord


def repeated_text(trial: TrialRecord, metric: Metric) -> str:
    """Return the mean of a finalist's repetitions, their deviation and their number; empty where it has none."""
    return _spread(trial.repeated, metric)


def folded(record: StudyRecord) -> bool:
    """Tell whether the trials of a study train on folds, and one has done so on all of them."""
    return any(trial.kept_of_folds for trial in record.trials)


def folds_text(trial: TrialRecord, metric: Metric) -> str:
    """Return the mean over the folds of a complete trial, their deviation and number; empty where it has none."""
    return _spread([epoch.evaluation(metric) for epoch in trial.kept_of_folds], metric)


def _spread(values: Sequence[float], metric: Metric) -> str:
    if not values:
        return ""
    mean, deviation = statistics.fmean(values), sample_deviation(values)
    return f"{shown(mean, metric)} ± {shown(deviation, metric)} (n = {len(values)})"
