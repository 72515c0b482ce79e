"""Scores under the battery on repetition: baseline and winner of a confirmation, each seed judged by another fold."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from pneumosearch.metrics import Metric, difference_shown, shown
from pneumosearch.records.confirmation import Candidate, Confirmation
from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.records.trial import TrialRecord
from pneumosearch.report.battery import OVER_ALL, judged

#: The kept epochs of one configuration's replicates that the battery judged, by seed.
Replicates = Mapping[int, EpochMetrics]

NOTE: Final = (
    "The same on repetition: the networks of the confirmation, mean ± standard deviation over seeds, each judged by "
    "another fold of the validation images; the lead is over the seeds of both."
)


def repeated(confirmation: Confirmation, replicates: Sequence[TrialRecord]) -> dict[str, Replicates]:
    """Return what the battery said of the baseline and of the winner on repetition.

    Args:
        confirmation: It has the seeds, and names the winner.
        replicates: Trials of the study of replicates.

    Returns:
        {"baseline": ..., "trial 7": ...}; empty where the battery judged no replicate of one of the two.
    """
    winner = confirmation.candidates[confirmation.verdict.winner]
    both = {"baseline": confirmation.candidates[0], f"trial {winner.trial}": winner}
    found = {who: _judged(candidate, replicates) for who, candidate in both.items()}
    return found if all(found.values()) else {}


def _judged(candidate: Candidate, replicates: Sequence[TrialRecord]) -> Replicates:
    trials = {trial.number: trial for trial in replicates}
    pairs = [(each.seed, trials[each.trial]) for each in candidate.replicates if each.trial in trials]
    return {seed: epoch for seed, trial in pairs if (epoch := judged(trial)) is not None}


def by_family(replicates: Replicates) -> dict[str, dict[int, float]]:
    """Return the balanced accuracies as {family: {seed: fraction}}."""
    found: dict[str, dict[int, float]] = {}
    for seed, epoch in replicates.items():
        for family, scores in (epoch.families or {}).items():
            found.setdefault(family, {})[seed] = scores.accuracy
    return found


def repeated_rows(compared: Mapping[str, Replicates], families: Sequence[str]) -> list[list[str]]:
    """Return a row for each family, and for each figure over all: both means ± deviation, and the winner's lead.

    Args:
        compared: As `repeated` returns it, not empty.
        families: Names of the families, in the order of the rows.
    """
    of_each = [by_family(replicates) for replicates in compared.values()]
    rows = [[family, *_cells([each.get(family, {}) for each in of_each], "balanced_accuracy")] for family in families]
    for label, metric in OVER_ALL.items():
        figures = [
            {seed: epoch.evaluation(metric) for seed, epoch in replicates.items()} for replicates in compared.values()
        ]
        rows.append([label, *_cells(figures, metric)])
    return rows


def _cells(figures: Sequence[Mapping[int, float]], metric: Metric) -> list[str]:
    baseline, winner = figures
    leads = [winner[seed] - baseline[seed] for seed in winner if seed in baseline]
    lead = difference_shown(statistics.fmean(leads), metric).removesuffix(" points") if leads else "–"
    return [*(_mean_shown(list(each.values()), metric) for each in figures), lead]


def _mean_shown(values: Sequence[float], metric: Metric) -> str:
    if not values:
        return "–"
    return " ± ".join(shown(each, metric).removesuffix(" %") for each in mean_and_deviation(values))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, which is 0 of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
