"""What probabilities are worth on labelled images: scores with intervals, for confirmations and for `evaluate`."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumosearch.intervals import Floats, bootstrap_aucs, bootstrap_means, wilson_interval
from pneumosearch.metrics import brier_score, calibration_error, log_losses, score
from pneumosearch.records.confirmation import TestScores
from pneumosearch.records.evaluation import Figures, Interval

HALF: Final = 0.5


def scored(labels: Sequence[int], probabilities: Floats, threshold: float) -> TestScores:
    """Return the scores of predictions at a threshold, with the 95% Wilson interval of the accuracy.

    Args:
        labels: (n,) of 0 (normal) and 1 (pneumonia).
        probabilities: (n,) of pneumonia.
        threshold: In [0, 1]; larger probabilities predict pneumonia.
    """
    scores = score(labels, probabilities, threshold=threshold)
    low, high = wilson_interval(round(scores.accuracy * len(labels)), len(labels))
    return TestScores(
        threshold=threshold,
        accuracy=scores.accuracy,
        sensitivity=scores.sensitivity,
        specificity=scores.specificity,
        balanced_accuracy=scores.balanced_accuracy,
        auc=scores.auc,
        brier=brier_score(labels, probabilities),
        calibration_error=calibration_error(labels, probabilities),
        accuracy_low=low,
        accuracy_high=high,
    )


def figures(labels: Sequence[int], probabilities: Floats, patients: Sequence[str], threshold: float) -> Figures:
    """Return the figures of predictions at a threshold, with 95% intervals.

    Args:
        labels: (n,) of 0 and 1 (the positive class), at least one image.
        probabilities: (n,) of the positive class.
        patients: (n,) the patient of each image.
        threshold: In [0, 1]; larger probabilities predict the positive class.
    """
    truth = np.asarray(labels) > HALF
    right = (probabilities > threshold) == truth
    both = scored(labels, probabilities, threshold) if truth.any() and not truth.all() else None
    return Figures(
        threshold=threshold,
        accuracy=_share(right),
        sensitivity=_share(right[truth]) if truth.any() else None,
        specificity=_share(right[~truth]) if not truth.all() else None,
        balanced_accuracy=_interval(bootstrap_means(right.astype(np.float64), truth, patients)) if both else None,
        auc=_interval(*bootstrap_aucs(labels, probabilities[None, :], patients)) if both else None,
        log_loss=_interval(bootstrap_means(log_losses(labels, probabilities), np.zeros(len(truth)), patients)),
        brier=both.brier if both else None,
        calibration_error=both.calibration_error if both else None,
    )


def _share(right: npt.NDArray[np.bool_]) -> Interval:
    low, high = wilson_interval(int(right.sum()), len(right))
    return Interval(value=float(right.mean()), low=low, high=high)


def _interval(found: tuple[float, float, float]) -> Interval:
    return Interval(value=found[0], low=found[1], high=found[2])
