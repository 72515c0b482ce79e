"""What is measured of a classifier's probabilities."""

from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Metric = Literal["accuracy", "auc", "balanced_accuracy", "loss"]

#: Keras keeps probabilities this far from 0 and 1 before it takes their logarithm.
_EPSILON: Final = 1e-7


def direction(metric: Metric) -> Literal["maximize", "minimize"]:
    """Tell whether a search wants `metric` large or small."""
    return "minimize" if metric == "loss" else "maximize"


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
