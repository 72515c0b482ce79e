"""A confirmation as text, tables and figures for the HTML page."""

from collections.abc import Sequence
from typing import Any, Final, Literal

from pneumosearch.confirm.verdict import ensemble_probabilities
from pneumosearch.metrics import difference_shown, metric_name
from pneumosearch.records.classes import Classes
from pneumosearch.records.confirmation import Candidate, Comparison, Confirmation, Estimate
from pneumosearch.records.dataset import PHANTOMS, DataDescription
from pneumosearch.report import figures_confirm, tables
from pneumosearch.report.changes import changes_text
from pneumosearch.report.curves import confusion
from pneumosearch.report.figures_confirm import PublishedAccuracy, published_accuracies
from pneumosearch.report.latest_confirmation import (
    REPETITION_HEADINGS,
    MisclassifiedImage,
    corrected_p,
    other_confidence,
    repetition_rows,
    repetition_title,
)

#: Metrics of a candidate as {field: heading}; those in percent first.
_IN_PERCENT: Final = {
    "accuracy": "accuracy %",
    "sensitivity": "sensitivity %",
    "specificity": "specificity %",
    "balanced_accuracy": "balanced %",
}
_AS_FRACTIONS: Final = {"auc": "AUC", "brier": "Brier", "calibration_error": "calibration error"}
_HEADLINES: Final = {
    "better": "Confirmed: better than the baseline",
    "worse": "Worse than the baseline",
    "no difference can be shown": "No difference from the baseline can be shown",
}
_BEST: Final = "The search's best"


def confirmation_view(
    confirmation: Confirmation, data: DataDescription, misclassified: Sequence[MisclassifiedImage]
) -> dict[str, Any]:
    """Return the values that the templates of a confirmation need.

    Args:
        confirmation: The confirmation.
        data: Of the study; it has the classes, and says whether published results may stand beside its own.
        misclassified: Test images that the winner misclassified.
    """
    published = published_accuracies() if data.beside_published else []
    figures = (
        figures_confirm.accuracies(confirmation, published),
        figures_confirm.roc_curves(confirmation),
        figures_confirm.calibration_diagram(confirmation, data.words[1]),
    )
    return {
        "record": confirmation,
        "words": data.words,
        "beside_published": data.beside_published,
        "headline": _HEADLINES[confirmation.verdict.conclusion],
        "sentences": [each for each in confirmation.verdict.sentences if each != PHANTOMS],
        "tiles": _tiles(confirmation),
        "candidates": [_candidate(candidate) for candidate in confirmation.candidates],
        "at_half": _estimates(confirmation, "at_half"),
        "at_threshold": _estimates(confirmation, "at_threshold"),
        "replicates": _replicates(confirmation),
        "repetition": _repetition(confirmation),
        "compared": _comparisons(confirmation),
        "published": _beside_published(confirmation, published),
        "confusions": _confusions(confirmation),
        "figures": figures,
        "misclassified": [_misclassified(confirmation, data.words, image) for image in misclassified],
    }


def _tiles(confirmation: Confirmation) -> list[tuple[str, str, str]]:
    """Return the main numbers of the verdict as (name, value, uncertainty)."""
    verdict = confirmation.verdict
    winner, baseline = confirmation.candidates[verdict.winner], confirmation.candidates[0]
    compared = next(each for each in confirmation.comparisons if each.candidate == verdict.winner)
    own, other = winner.at_half["accuracy"], baseline.at_half["accuracy"]
    chosen = confirmation.naming and len(confirmation.comparisons) > 1
    label = f"{'Winner by repetition' if chosen else _BEST}, {winner.label}"
    return [
        (label, f"{tables.percent(own.mean)} %", f"test accuracy, {_seeds(winner)}; {_range(own)}"),
        ("Baseline", f"{tables.percent(other.mean)} %", f"test accuracy, {_seeds(baseline)}; {_range(other)}"),
        ("Difference", f"{tables.points(compared.difference)} points",
         f"of test accuracy; 95% from {_interval_in_points(compared)}"),
        ("Gain in the search", f"{tables.points(verdict.validation_gain)} points",
         f"of validation accuracy; the winner's curse alone explains {tables.points(verdict.expected_luck)} "
         f"(the best of {verdict.n_searched} equally good configurations)"),
        *_lead(confirmation),
        *_lead_on_control(confirmation),
    ]  # fmt: skip


def _lead(confirmation: Confirmation) -> list[tuple[str, str, str]]:
    naming = confirmation.naming
    if naming is None:
        return []
    baseline, metric = naming.repetitions[0], naming.metric
    winner = next(each for each in naming.repetitions[1:] if each.trial == naming.winner)
    searched = difference_shown(winner.searched - baseline.searched, metric)
    about = f"of validation {metric_name(metric)}, on other seeds and folds; in the search it was {searched}"
    return [("Lead on repetition", difference_shown(winner.lead, metric), about)]


def _lead_on_control(confirmation: Confirmation) -> list[tuple[str, str, str]]:
    compared = confirmation.verdict.beside_control
    if compared is None:
        return []
    best = confirmation.candidates[compared.candidate].label
    whose = "" if compared.candidate == confirmation.verdict.winner else f" of {best}, the best that the search found"
    about = f"of test accuracy{whose}; 95% from {_interval_in_points(compared)}; the control had no search"
    return [("Lead on the control", f"{tables.points(compared.difference)} points", about)]


def _seeds(candidate: Candidate) -> str:
    n = len(candidate.replicates)
    return f"mean of {n} seed{'s' * (n != 1)}"


def _range(estimate: Estimate) -> str:
    return f"95% from {tables.percent(estimate.low)} to {tables.percent(estimate.high)}"


def _interval_in_points(compared: Comparison) -> str:
    return f"{tables.points(compared.low)} to {tables.points(compared.high)}"


def _candidate(candidate: Candidate) -> list[str]:
    changes = changes_text(candidate.config) or "nothing: it is the published network"
    return [candidate.label_with_failures, changes]


def _estimates(confirmation: Confirmation, at: Literal["at_half", "at_threshold"]) -> dict[str, Any]:
    """Return a table of the metrics over seeds: mean ± standard deviation, below it the interval of the mean."""
    headings = ["candidate", *_IN_PERCENT.values(), *_AS_FRACTIONS.values()]
    rows = []
    for candidate in confirmation.candidates:
        estimates: dict[str, Estimate] = getattr(candidate, at)
        cells = [_estimate(estimates[name], 100, 1) for name in _IN_PERCENT]
        cells += [_estimate(estimates[name], 1, 3) for name in _AS_FRACTIONS]
        rows.append([candidate.label_with_failures, *cells])
    return {"headings": headings, "rows": rows}


def _estimate(estimate: Estimate, times: float, digits: int) -> str:
    mean, deviation, low, high = (
        f"{times * value:.{digits}f}" for value in (estimate.mean, estimate.deviation, estimate.low, estimate.high)
    )
    return f"{mean} ± {deviation}\n{low} to {high}"


def _repetition(confirmation: Confirmation) -> dict[str, Any] | None:
    naming = confirmation.naming
    if naming is None:
        return None
    caption = f"{repetition_title(naming)}. Written down {naming.time}, before the test images were opened"
    return {"headings": REPETITION_HEADINGS, "rows": repetition_rows(confirmation, naming), "caption": caption}


def _replicates(confirmation: Confirmation) -> dict[str, Any]:
    headings = ["candidate", "seed", "fold", "kept epoch", "validation %", "test %", "AUC", "threshold", "test % there"]
    rows = [
        [
            candidate.label,
            str(each.seed),
            _fold(each.fold),
            str(each.kept_epoch),
            tables.percent(each.validation_accuracy),
            tables.percent(each.at_half.accuracy),
            f"{each.at_half.auc:.4f}",
            f"{each.at_threshold.threshold:.3f}",
            tables.percent(each.at_threshold.accuracy),
        ]
        for candidate in confirmation.candidates
        for each in candidate.replicates
    ]
    rows += [
        [candidate.label, str(failure.seed), _fold(failure.fold), failure.reason, *["–"] * (len(headings) - 4)]
        for candidate in confirmation.candidates
        for failure in candidate.failures
    ]
    return {"headings": headings, "rows": rows}


def _fold(number: int | None) -> str:
    return "–" if number is None else str(number)


def _comparisons(confirmation: Confirmation) -> list[list[str]]:
    """Return the rows of the table of comparisons: of finalists with the baseline, and of one with the control."""
    labels = [each.label for each in confirmation.candidates]
    rows = [_comparison(labels[each.candidate], each) for each in confirmation.comparisons]
    control = confirmation.verdict.beside_control
    return rows if control is None else [*rows, _comparison(f"{labels[control.candidate]}, from the control", control)]


def _comparison(label: str, compared: Comparison) -> list[str]:
    auc = (compared.auc_difference, compared.auc_low, compared.auc_high)
    return [
        label,
        f"{tables.points(compared.difference)}\n{_interval_in_points(compared)}{other_confidence(compared)}",
        "{:+.4f}\n{:+.4f} to {:+.4f}".format(*auc) + other_confidence(compared),
        f"{compared.only_candidate_right} / {compared.only_baseline_right}",
        f"{corrected_p(compared):.3g}",
    ]


def _beside_published(confirmation: Confirmation, published: Sequence[PublishedAccuracy]) -> list[list[str]]:
    """Return accuracy, interval, sensitivity, specificity and AUC of seed ensembles, then of published results."""
    rows = []
    for candidate in figures_confirm.shown_candidates(confirmation):
        scores = candidate.ensemble_at_half
        interval = f"{tables.percent(scores.accuracy_low)} to {tables.percent(scores.accuracy_high)}"
        cells = [tables.percent(each) for each in (scores.sensitivity, scores.specificity, scores.auc)]
        rows.append([f"{candidate.label}, seed ensemble", tables.percent(scores.accuracy), interval, *cells])
    for row in published:
        interval = f"{tables.percent(row.low)} to {tables.percent(row.high)}"
        cells = [tables.percent(each) for each in (row.sensitivity, row.specificity, row.auc)]
        rows.append([row.name, tables.percent(row.accuracy), interval, *cells])
    return rows


def _confusions(confirmation: Confirmation) -> list[dict[str, Any]]:
    """Return the confusion matrices of the seed ensembles of the baseline and the winner at both thresholds."""
    found = []
    for candidate in figures_confirm.shown_candidates(confirmation):
        probabilities = ensemble_probabilities(candidate.replicates)
        for scores in (candidate.ensemble_at_half, candidate.ensemble_at_threshold):
            counts = confusion(confirmation.labels, probabilities, scores.threshold)
            title = f"{candidate.label}, threshold {scores.threshold:.3g}"
            found.append({"title": title, "counts": counts})
    return found


def _misclassified(confirmation: Confirmation, words: Classes, image: MisclassifiedImage) -> dict[str, Any]:
    winner = figures_confirm.shown_candidates(confirmation)[1]
    probability = float(ensemble_probabilities(winner.replicates)[image.position])
    truth, called = confirmation.labels[image.position], int(probability > winner.ensemble_at_half.threshold)
    text = f"{words[truth]}, classified as {words[called]}: probability of {words[1]} {probability:.3f}"
    return {"png": image.png, "name": confirmation.images[image.position], "text": text}
