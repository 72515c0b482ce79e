"""What is measured of a classifier's probabilities."""

from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

#: Those under stress are of changed copies of the validation images, see `data.stress`.
Metric = Literal[
    "accuracy",
    "auc",
    "balanced_accuracy",
    "loss",
    "stress_accuracy",
    "stress_auc",
    "stress_balanced_accuracy",
    "stress_worst",
]

#: What a pruner may see. The last is of the network with precise batch normalisation, see `normalization`.
PruneMetric = Metric | Literal["precise_auc"]

#: Keras keeps probabilities this far from 0 and 1 before it takes their logarithm.
_EPSILON: Final = 1e-7


def direction(metric: PruneMetric) -> Literal["maximize", "minimize"]:
    """Tell whether a search wants `metric` large or small."""
    return "minimize" if metric == "loss" else "maximize"


def under_stress(metric: PruneMetric) -> bool:
    """Tell whether `metric` is of changed copies of the validation images."""
    return metric.startswith("stress_")


def scale(metric: Metric) -> float:
    """Return by what a value is multiplied to be drawn: accuracies are percentages."""
    return 1.0 if metric.removeprefix("stress_") in ("auc", "loss") else 100.0


def metric_name(metric: Metric) -> str:
    """Return the metric as words."""
    if metric == "stress_worst":
        return "balanced accuracy under the worst change"
    plain = metric.removeprefix("stress_")
    words = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}.get(plain, plain)
    return words + " of changed copies" * (plain != metric)


def shown(value: float, metric: Metric) -> str:
    """Return a value of the metric as text, with its unit."""
    return f"{100 * value:.1f} %" if scale(metric) == 100.0 else f"{value:.4f}"


@dataclass(frozen=True)
class Scores:
    """One model on one set of images; all but `loss` are fractions in [0, 1]."""

    accuracy: float
    loss: float  # mean binary cross-entropy, nats
    sensitivity: float  # of pneumonia
    specificity: float
    balanced_accuracy: float
    auc: float

    def as_dict(self, prefix: str) -> dict[str, float]:
        """Return the scores with `prefix_` before each name."""
        return {f"{prefix}_{name}": value for name, value in asdict(self).items()}


def score(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, threshold: float = 0.5) -> Scores:
    """Score probabilities of pneumonia against labels.

    Args:
        labels: (n,) of 0 (normal) and 1 (pneumonia), both present.
        probabilities: (n,) in [0, 1]; a NaN gives NaN scores.
        threshold: Above it an image is called ill (as Keras' accuracy does, not at it).
    """
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(labels).reshape(-1) > 0.5
    p = np.asarray(probabilities, dtype=np.float64).reshape(-1)
    if not np.isfinite(p).all():
        return Scores(*[float("nan")] * 6)
    called = p > threshold
    sensitivity, specificity = float(called[truth].mean()), float((~called[~truth]).mean())
    clipped = np.clip(p, _EPSILON, 1 - _EPSILON)
    return Scores(
        accuracy=float((called == truth).mean()),
        loss=float(-np.where(truth, np.log(clipped), np.log1p(-clipped)).mean()),
        sensitivity=sensitivity,
        specificity=specificity,
        balanced_accuracy=(sensitivity + specificity) / 2,
        auc=float(roc_auc_score(truth, p)),
    )


@dataclass(frozen=True)
class StressScores:
    """One model on changed copies of a set of images; fractions in [0, 1]."""

    stress_accuracy: float  # of all copies together, as the next two
    stress_auc: float
    stress_balanced_accuracy: float
    stress_worst: float  # balanced accuracy under the change that harms it most

    def as_dict(self, prefix: str) -> dict[str, float]:
        """Return the scores with `prefix_` before each name."""
        return {f"{prefix}_{name}": value for name, value in asdict(self).items()}


def stress_score(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> StressScores:
    """Score probabilities of changed copies, with one threshold of 0.5 for all.

    Args:
        labels: (n,) of the images, 0 (normal) and 1 (pneumonia), both present.
        probabilities: (changes * n,), all images of one change after the other.
    """
    truth = np.asarray(labels).reshape(-1)
    p = np.asarray(probabilities).reshape(-1, len(truth))
    together = score(np.tile(truth, len(p)), p)
    worst = min(score(truth, of_change).balanced_accuracy for of_change in p)
    return StressScores(together.accuracy, together.auc, together.balanced_accuracy, worst)


def brier_score(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Return the mean squared difference of probability and label: 0 is perfect, 0.25 what a constant 0.5 gets.

    Args:
        labels: (n,) of 0 and 1.
        probabilities: (n,) in [0, 1].

    Source:
        Brier, Monthly Weather Review 78 (1950) 1-3.
    """
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(np.asarray(labels) > 0.5, probabilities))


def calibration_error(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, n_bins: int = 10) -> float:
    """Return the expected calibration error: how far the share of ill images is from what the probabilities say.

    Args:
        labels: (n,) of 0 and 1.
        probabilities: (n,) in [0, 1], of label 1.
        n_bins: Of equal width; a probability on an edge belongs to the upper bin, 1 to the last.

    Returns:
        The mean over images of the absolute difference, within an image's bin, of mean probability and share of ill.

    Source:
        Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
    """
    excess = np.asarray(probabilities, dtype=np.float64) - np.asarray(labels, dtype=np.float64)
    bins = np.minimum((np.asarray(probabilities, dtype=np.float64) * n_bins).astype(int), n_bins - 1)
    return float(np.abs(np.bincount(bins, weights=excess, minlength=n_bins)).sum() / len(excess))


def best_threshold(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Return the threshold above which calling an image ill gives the best balanced accuracy.

    Args:
        labels: (n,) of 0 and 1, both present.
        probabilities: (n,) in [0, 1].

    Returns:
        0, 0.5, 1 or the middle between two neighbouring probabilities; of equally good ones the nearest to 0.5.

    Source:
        Youden, Cancer 3 (1950) 32-35: balanced accuracy is largest where his index is.
    """
    truth, p = np.asarray(labels) > 0.5, np.asarray(probabilities, dtype=np.float64)
    levels = np.unique(np.append(p, [0.0, 1.0]))
    thresholds = np.concatenate([(levels[:-1] + levels[1:]) / 2, [0.0, 0.5, 1.0]])
    called = p > thresholds[:, None]
    hits, alarms = called[:, truth].sum(axis=1), called[:, ~truth].sum(axis=1)
    # In whole numbers, so that equally good ones are equal: hits / n_ill - alarms / n_normal.
    index = hits * int((~truth).sum()) - alarms * int(truth.sum())
    best = thresholds[index == index.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])
