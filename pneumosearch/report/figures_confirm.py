"""Figures of a confirmation: accuracies with the published ones, ROC curves, calibration."""

from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumosearch.confirm.verdict import ensemble_probabilities
from pneumosearch.intervals import wilson_interval
from pneumosearch.published import OTHER_FIGURES, PUBLISHED_TABLE
from pneumosearch.records.confirmation import Candidate, Confirmation, Estimate
from pneumosearch.report import figures_curves
from pneumosearch.report.figures import GREEN, INK, Drawing, drawing, label, styled
from pneumosearch.report.figures_curves import Curve
from pneumosearch.report.tables import N_TEST
from pneumosearch.training.plots import EVALUATION_COLOUR

_COLOURS: Final = (GREEN, EVALUATION_COLOUR)


@dataclass(frozen=True)
class PublishedAccuracy:
    """A published result on the 624 test images; fractions in [0, 1], None where the source gives no figure."""

    name: str
    accuracy: float
    low: float  # 95% Wilson interval for 624 images, computed here
    high: float
    sensitivity: float | None = None
    specificity: float | None = None
    auc: float | None = None


def published_accuracies() -> list[PublishedAccuracy]:
    """Return the best and the last epoch of the published table, then the figures of other works."""
    best = max(PUBLISHED_TABLE, key=lambda row: row.test_accuracy)
    rows = [_with_interval(f"published, epoch {row.epoch}", row.test_accuracy) for row in (best, PUBLISHED_TABLE[-1])]
    others = [
        _with_interval(figures.name, figures.accuracy, figures.sensitivity, figures.specificity, figures.auc)
        for figures in OTHER_FIGURES
    ]
    return rows + others


def _with_interval(name: str, accuracy: float, *others: float | None) -> PublishedAccuracy:
    return PublishedAccuracy(name, accuracy, *wilson_interval(round(accuracy * N_TEST), N_TEST), *others)


def shown_candidates(confirmation: Confirmation) -> tuple[Candidate, Candidate]:
    """Return the two candidates whose curves are drawn: the baseline and the finalist that was best on validation."""
    return confirmation.candidates[0], confirmation.candidates[confirmation.verdict.winner]


@styled
def accuracies(confirmation: Confirmation, published: list[PublishedAccuracy]) -> Drawing:
    """Draw the mean test accuracy of each candidate with its interval, single seeds, and published accuracies.

    Args:
        confirmation: The confirmation.
        published: Published accuracies on the same images; empty where the images are not comparable.
    """
    n = len(confirmation.candidates) + len(published)
    figure = Figure(figsize=(5.2, 0.8 + 0.3 * n), layout="constrained")
    axes: Axes = figure.subplots()
    for row, candidate in enumerate(confirmation.candidates):
        colour = _COLOURS[min(row, 1)]
        axes.plot([100 * each.at_half.accuracy for each in candidate.replicates], [row] * len(candidate.replicates),
                  "o", color=colour, alpha=0.35, ms=4, mew=0)  # fmt: skip
        _interval(axes, row, candidate.at_half["accuracy"], "D", colour)
    for row, figures in enumerate(published, start=len(confirmation.candidates)):
        _interval(axes, row, figures, "s", INK)
    names = [*(candidate.label for candidate in confirmation.candidates), *(figures.name for figures in published)]
    axes.set_yticks(range(n), [label(name) for name in names])
    axes.set(xlabel="test accuracy at threshold 0.5 (%)", ylim=(n - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    means = [f"{each.label} {100 * each.at_half['accuracy'].mean:.1f} %" for each in confirmation.candidates]
    others = [f"{each.name} {100 * each.accuracy:.1f} %" for each in published]
    failed = any(candidate.failures for candidate in confirmation.candidates)
    over = f"{len(confirmation.seeds)} seeds" + ", without failed replicates," * failed
    alt = f"Test accuracies: mean over {over} of {', '.join(means)}"
    alt += f"; published: {', '.join(others)}." if others else "."
    caption = "Diamonds: mean over seeds with 95% interval of the mean (Student's t); dots: single seeds."
    if published:
        n_images = len(confirmation.images)
        caption += f" Squares: published single runs, with 95% Wilson intervals for {n_images} images computed here."
    return drawing(figure, "accuracies", alt=alt, caption=caption)


def _interval(axes: Axes, row: int, result: Estimate | PublishedAccuracy, marker: str, colour: str) -> None:
    mean = result.mean if isinstance(result, Estimate) else result.accuracy
    axes.plot([100 * result.low, 100 * result.high], [row, row], color=colour, lw=1.4)
    axes.plot([100 * mean], [row], marker, color=colour, ms=6)


def roc_curves(confirmation: Confirmation) -> Drawing:
    """Draw the ROC curves of the seed ensembles of the baseline and the winner, each with a 95% band."""
    return figures_curves.roc_curves(
        _curves(confirmation),
        f"ROC curves of the seed ensembles on {len(confirmation.images)} test images",
        "Mean probability over seeds. ",
    )


def calibration_diagram(confirmation: Confirmation, positive: str) -> Drawing:
    """Draw the observed share of the positive class against the mean predicted probability of the seed ensembles."""
    return figures_curves.calibration_diagram(_curves(confirmation), positive, "Calibration of the seed ensembles")


def _curves(confirmation: Confirmation) -> list[Curve]:
    return [
        Curve(
            candidate.label,
            confirmation.labels,
            ensemble_probabilities(candidate.replicates),
            confirmation.patients,
            candidate.ensemble_at_half,
        )
        for candidate in shown_candidates(confirmation)
    ]
