"""Repetition names the winner, by the metric of the search on other seeds and folds, before the test set is opened."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pneumosearch.confirm.replicates import ConfirmationPlan, finished_replicates
from pneumosearch.errors import StoreError
from pneumosearch.metrics import Metric, direction
from pneumosearch.records.attributes import naming_of
from pneumosearch.records.confirmation import Naming, Repetition
from pneumosearch.records.trial import StudyRecord, TrialRecord
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import explained


def named_winner(store: Store, plan: ConfirmationPlan) -> Naming | None:
    """Name the winner by the plan's replicates, and write it down; once written down, it stays.

    Returns:
        None where the plan's replicates share one split, as in earlier versions: the best of the search is the winner.
    """
    if plan.n_folds is None:
        return None
    with explained(store.url):
        study, attribute = store.load_study(plan.study), naming_of(plan.why())
        naming = attribute.of(study)
        if naming is None:
            naming = _named(plan, _figures(store, plan), plan.n_folds)
            attribute.set(study, naming)
    return naming


def _figures(store: Store, plan: ConfirmationPlan) -> dict[int, dict[int, float]]:
    """Return the metric of each replicate: {number of the candidate: {seed: figure}}."""
    trained = finished_replicates(store, plan)
    found: dict[int, dict[int, float]] = {trial.number: {} for trial in plan.candidates}
    for run, (trial, _) in plan.runs.items():
        if run in trained:
            found[trial.number][run.seed] = _figure(trained[run], plan.record.metric)
    return found


def _figure(trial: TrialRecord, metric: Metric) -> float:
    if trial.kept is None:
        raise StoreError(f"trial {trial.number} has no epoch")
    return trial.kept.evaluation(metric)


def _named(plan: ConfirmationPlan, figures: Mapping[int, Mapping[int, float]], n_folds: int) -> Naming:
    beside = figures[plan.candidates[0].number]
    repetitions = tuple(_repetition(plan, trial, figures[trial.number], beside) for trial in plan.candidates)
    ranking = sorted(repetitions[1:], key=lambda each: _rank(each, plan.record), reverse=True)  # equal ones in order
    control = plan.record.control
    searched = (each.trial for each in ranking if control is None or each.trial != control.number)
    return Naming(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        metric=plan.record.metric,
        n_folds=n_folds,
        seeds=plan.seeds,
        winner=ranking[0].trial,
        best_searched=next(searched, None),
        repetitions=repetitions,
    )


def _rank(repetition: Repetition, record: StudyRecord) -> tuple[int, bool, float]:
    """Return what is larger of the better one: fewer failures, then the study's floor, then the mean of the metric."""
    sign = 1.0 if direction(record.metric) == "maximize" else -1.0
    below = record.below_floor(record.trial(repetition.trial))
    return repetition.n_paired, not below, sign * repetition.lead


def _repetition(
    plan: ConfirmationPlan, trial: TrialRecord, own: Mapping[int, float], beside: Mapping[int, float]
) -> Repetition:
    """Set the figures of a candidate beside those of the baseline, seed by seed, as each seed has its own fold."""
    paired = [own[seed] - beside[seed] for seed in plan.seeds if seed in own and seed in beside]
    if trial.value is None:
        raise StoreError(f"trial {trial.number} is not complete")
    return Repetition(
        trial=trial.number,
        searched=trial.value,
        figures=tuple(own.get(seed) for seed in plan.seeds),
        lead=sum(paired) / len(paired),
        n_paired=len(paired),
    )
