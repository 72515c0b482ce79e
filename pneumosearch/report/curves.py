"""What the figures of a candidate show: confusion matrix, ROC curve with a band, calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumosearch.intervals import wilson_interval

Floats = npt.NDArray[np.float64]

N_RESAMPLES: Final = 1000
_N_BINS: Final = 10


@dataclass(frozen=True)
class Confusion:
    """Numbers of images by true class and predicted class; "ill" is pneumonia."""

    ill_called_ill: int
    ill_called_normal: int
    normal_called_ill: int
    normal_called_normal: int


def confusion(labels: Sequence[int], probabilities: Floats, threshold: float) -> Confusion:
    """Return the confusion matrix; a probability above the threshold predicts pneumonia.

    Args:
        labels: (n_images,) of 0 (normal) and 1 (pneumonia).
        probabilities: (n_images,) of pneumonia.
        threshold: In [0, 1].
    """
    ill, called = np.asarray(labels) == 1, probabilities > threshold
    counts = (ill & called, ill & ~called, ~ill & called, ~ill & ~called)
    return Confusion(*(int(each.sum()) for each in counts))


@dataclass(frozen=True)
class RocBand:
    """A ROC curve, and its band at 101 false-positive rates; all values are fractions in [0, 1]."""

    false_positive: Floats  # of the curve, ascending from 0 to 1
    true_positive: Floats
    grid: Floats  # (101,) false-positive rates at which the band is given
    low: Floats  # (101,) 2.5th percentile of the sensitivity there
    high: Floats


def roc_band(labels: Sequence[int], probabilities: Floats, patients: Sequence[str], *, seed: int = 0) -> RocBand:
    """Return a ROC curve with a pointwise 95% band by bootstrap over patients.

    Each of 1,000 resamples draws patients with all their images. Resamples without both classes are left out.

    Args:
        labels: (n_images,) of 0 (normal) and 1 (pneumonia), both present.
        probabilities: (n_images,) of pneumonia.
        patients: (n_images,) the patient of each image.
        seed: Seed of the resampling.

    Raises:
        ValueError: The images are all of one class.
    """
    names, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    generator, grid = np.random.default_rng(seed), np.linspace(0, 1, 101)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=N_RESAMPLES)
    curves = [_roc(labels, probabilities, weights[patient_of].astype(np.float64)) for weights in drawn]
    sensitivities = [np.interp(grid, *curve) for curve in curves if curve is not None]
    whole = _roc(labels, probabilities, np.ones(len(probabilities)))
    if whole is None:
        raise ValueError("a ROC curve needs images of both classes")
    low, high = np.quantile(sensitivities, (0.025, 0.975), axis=0)
    return RocBand(*whole, grid, low, high)


def _roc(labels: Sequence[int], probabilities: Floats, weights: Floats) -> tuple[Floats, Floats] | None:
    """Return false and true positive rates at each distinct probability; None without weight in both classes."""
    order = np.argsort(-probabilities, kind="stable")
    ill = np.asarray(labels)[order] == 1
    true, false = np.cumsum(weights[order] * ill), np.cumsum(weights[order] * ~ill)
    if true[-1] == 0 or false[-1] == 0:
        return None
    last_of_equals = np.append(np.diff(probabilities[order]) != 0, True)
    false_rates, true_rates = (np.append(0.0, sums[last_of_equals] / sums[-1]) for sums in (false, true))
    return false_rates, true_rates


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose predicted probability lies in one tenth of [0, 1]."""

    n: int
    mean_probability: float
    share_ill: float
    low: float  # 95% Wilson interval of the share
    high: float


def calibration(labels: Sequence[int], probabilities: Floats) -> list[CalibrationBin]:
    """Return the non-empty bins of ten of equal width, by ascending probability.

    Args:
        labels: (n_images,) of 0 (normal) and 1 (pneumonia).
        probabilities: (n_images,) of pneumonia.
    """
    ill, position = np.asarray(labels) == 1, np.minimum((probabilities * _N_BINS).astype(int), _N_BINS - 1)
    bins = []
    for number in range(_N_BINS):
        inside = position == number
        n, n_ill = int(inside.sum()), int(ill[inside].sum())
        if n:
            interval = wilson_interval(n_ill, n)
            bins.append(CalibrationBin(n, float(probabilities[inside].mean()), n_ill / n, *interval))
    return bins
