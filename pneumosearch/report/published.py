"""Published accuracies on the same test images, with the interval that their number of images gives."""

from dataclasses import dataclass

from pneumosearch.intervals import wilson_interval
from pneumosearch.published import OTHER_FIGURES, PUBLISHED_TABLE
from pneumosearch.report.tables import N_TEST


@dataclass(frozen=True)
class PublishedAccuracy:
    """A published test result; fractions, None where the source gives no figure."""

    name: str
    accuracy: float
    low: float  # 95% Wilson interval, computed here
    high: float
    sensitivity: float | None = None
    specificity: float | None = None
    auc: float | None = None


def published_accuracies() -> list[PublishedAccuracy]:
    """Return the study's best and last published epoch, and the figures of other works."""
    best = max(PUBLISHED_TABLE, key=lambda row: row.test_accuracy)
    rows = [_with_interval(f"published, epoch {row.epoch}", row.test_accuracy) for row in (best, PUBLISHED_TABLE[-1])]
    others = [
        _with_interval(figures.name, figures.accuracy, figures.sensitivity, figures.specificity, figures.auc)
        for figures in OTHER_FIGURES
    ]
    return rows + others


def _with_interval(name: str, accuracy: float, *others: float | None) -> PublishedAccuracy:
    return PublishedAccuracy(name, accuracy, *wilson_interval(round(accuracy * N_TEST), N_TEST), *others)
