"""Metrics: the table of all that an epoch records, and their computation from a classifier's probabilities."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class MetricKind:
    """One row of the table of metrics."""

    words: str
    percent: bool = False
    """Whether values are shown in per cent; the values themselves are fractions."""
    direction: Direction = "maximize"
    judge: Literal["images", "changed copies", "battery", "precise"] = "images"
    """What is judged: evaluation images, changed copies of them (`data.shifts`), copies of some of them under the
    battery of crafted shifts (`data.battery`), or evaluation images by the network with precise batch normalisation
    (`network.precise_batch_norm`)."""
    use: Literal["search", "prune", "record"] = "search"
    """A study may search by it and prune by it; or only prune by it; or it is only recorded."""
    prune_by: str = "precise_auc"
    """The metric that the pruner of a search by this one sees where the study file names none."""


#: Each metric that an epoch records, by its name in study files. A metric needs this row and a field of the scores
#: that compute it; the choices of study files, the record of an epoch and the reports follow.
METRICS: Final[Mapping[str, MetricKind]] = {
    "accuracy": MetricKind("accuracy", percent=True),
    "loss": MetricKind("loss", direction="minimize", prune_by="loss"),
    "sensitivity": MetricKind("sensitivity", percent=True, use="record"),
    "specificity": MetricKind("specificity", percent=True, use="record"),
    "balanced_accuracy": MetricKind("balanced accuracy", percent=True),
    "auc": MetricKind("AUC"),
    "stress_accuracy": MetricKind(
        "accuracy of changed copies", percent=True, judge="changed copies", prune_by="stress_auc"
    ),
    "stress_auc": MetricKind("AUC of changed copies", judge="changed copies", prune_by="stress_auc"),
    "stress_balanced_accuracy": MetricKind(
        "balanced accuracy of changed copies", percent=True, judge="changed copies", prune_by="stress_auc"
    ),
    "stress_worst": MetricKind(
        "balanced accuracy under the worst change", percent=True, judge="changed copies", prune_by="stress_auc"
    ),
    "shift_accuracy": MetricKind(
        "balanced accuracy over the battery", percent=True, judge="battery", prune_by="shift_auc"
    ),
    "shift_loss": MetricKind("loss over the battery", direction="minimize", judge="battery", prune_by="shift_loss"),
    "shift_specificity": MetricKind(
        "specificity over the battery", percent=True, judge="battery", prune_by="shift_auc"
    ),
    "shift_auc": MetricKind("AUC over the battery", judge="battery", prune_by="shift_auc"),
    "worst_family": MetricKind(
        "balanced accuracy of the worst family", percent=True, judge="battery", prune_by="shift_auc"
    ),
    "unseen_shift_accuracy": MetricKind(
        "balanced accuracy of unseen families", percent=True, judge="battery", prune_by="shift_auc"
    ),
    "precise_accuracy": MetricKind(
        "accuracy with precise batch normalisation", percent=True, judge="precise", use="record"
    ),
    "precise_loss": MetricKind(
        "loss with precise batch normalisation", direction="minimize", judge="precise", use="record"
    ),
    "precise_auc": MetricKind("AUC with precise batch normalisation", judge="precise", use="prune"),
}

if TYPE_CHECKING:  # a type checker cannot read the names from the table
    Metric = str
    PruneMetric = str
    AnyMetric = str
else:
    #: What a search may go by.
    Metric = Literal[tuple(name for name, kind in METRICS.items() if kind.use == "search")]
    #: What a pruner may see.
    PruneMetric = Literal[tuple(name for name, kind in METRICS.items() if kind.use != "record")]
    #: What an epoch records.
    AnyMetric = Literal[tuple(METRICS)]

#: By metric, the bound that a figure must not be worse than.
Floor = Mapping[AnyMetric, float]

#: Keras keeps probabilities this far from 0 and 1 before it takes their logarithm.
_EPSILON: Final = 1e-7


def direction(metric: PruneMetric) -> Direction:
    """Return whether a larger or a smaller value is better."""
    return METRICS[metric].direction


def under_stress(metric: PruneMetric) -> bool:
    """Tell whether `metric` is of changed copies of the validation images."""
    return METRICS[metric].judge == "changed copies"


def of_battery(metric: PruneMetric) -> bool:
    """Tell whether `metric` is of copies under the battery of crafted shifts."""
    return METRICS[metric].judge == "battery"


def reaches(value: float | None, metric: AnyMetric, bound: float) -> bool:
    """Tell whether a figure is no worse than `bound`; one that was not measured is worse."""
    if value is None:
        return False
    return value >= bound if METRICS[metric].direction == "maximize" else value <= bound


def floor_words(floor: Floor) -> str:
    """Return a floor in words, such as "AUC at least 0.9800"."""
    sides = {"maximize": "at least", "minimize": "at most"}
    return ", ".join(f"{METRICS[m].words} {sides[METRICS[m].direction]} {shown(v, m)}" for m, v in floor.items())


def scale(metric: Metric) -> float:
    """Return the factor from a value to the number that is shown: accuracies are percentages."""
    return 100.0 if METRICS[metric].percent else 1.0


def metric_name(metric: Metric) -> str:
    """Return the metric in words."""
    return METRICS[metric].words


def shown(value: float, metric: Metric) -> str:
    """Return a value of the metric as text, with its unit."""
    return f"{100 * value:.1f} %" if METRICS[metric].percent else f"{value:.4f}"


def difference_shown(value: float, metric: Metric) -> str:
    """Return a difference of two values of the metric as text, with its sign and its unit."""
    return f"{100 * value:+.1f} points" if METRICS[metric].percent else f"{value:+.4f}"


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
        threshold: An image is called ill above it, not at it, as in Keras' accuracy.
    """
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(labels).reshape(-1) > 0.5
    p = np.asarray(probabilities, dtype=np.float64).reshape(-1)
    if not np.isfinite(p).all():
        return Scores(*[float("nan")] * len(fields(Scores)))
    called = p > threshold
    sensitivity, specificity = float(called[truth].mean()), float((~called[~truth]).mean())
    return Scores(
        accuracy=float((called == truth).mean()),
        loss=float(log_losses(truth, p).mean()),
        sensitivity=sensitivity,
        specificity=specificity,
        balanced_accuracy=(sensitivity + specificity) / 2,
        auc=float(roc_auc_score(truth, p)),
    )


def log_losses(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the binary cross-entropy of each image in nats, (n,), as Keras computes it; arguments as of `score`."""
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), _EPSILON, 1 - _EPSILON)
    return -np.where(np.asarray(labels) > 0.5, np.log(clipped), np.log1p(-clipped))


@dataclass(frozen=True)
class StressScores:
    """One model on changed copies of a set of images; fractions in [0, 1]."""

    stress_accuracy: float  # of all copies together, like the next two
    stress_auc: float
    stress_balanced_accuracy: float
    stress_worst: float  # balanced accuracy under the most harmful change

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


@dataclass(frozen=True)
class FamilyScores:
    """One model on the copies of one family of the battery, each figure a mean over its copies."""

    accuracy: float  # balanced, like all accuracies of the battery
    loss: float  # nats; both classes weigh the same
    specificity: float
    auc: float


@dataclass(frozen=True)
class BatteryScores:
    """One model on copies of a set of images under the battery; fractions in [0, 1] but the loss."""

    shift_accuracy: float  # balanced; a mean over copies, like the next three
    shift_loss: float  # nats; both classes weigh the same
    shift_specificity: float
    shift_auc: float
    worst_family: float  # lowest balanced accuracy of a family
    unseen_shift_accuracy: float  # over the families that did not train; where all did, that of the worst
    families: Mapping[str, FamilyScores]
    copies: Mapping[str, float]  # balanced accuracy

    def as_dict(self, prefix: str) -> dict[str, object]:
        """Return the metrics with `prefix_` before each name, and the figures by family and by copy."""
        named = {name: getattr(self, name) for name in METRICS if of_battery(name)}
        figures = {f"{prefix}_{name}": value for name, value in named.items()}
        return {**figures, "families": self.families, "copies": self.copies}


def battery_score(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, families: Mapping[str, str], trained: Collection[str] = ()
) -> BatteryScores:
    """Score probabilities of copies under the battery, with one threshold of 0.5 for all.

    Args:
        labels: (n,) of the images, 0 (normal) and 1 (pneumonia), both present.
        probabilities: (copies * n,), all images of one copy after the other.
        families: {copy: its family}, in the order of the copies.
        trained: Families that the model saw in training.
    """
    truth = np.asarray(labels).reshape(-1) > 0.5
    p = np.asarray(probabilities, dtype=np.float64).reshape(len(families), len(truth))
    copies = {copy: _copy_score(truth, of_copy) for copy, of_copy in zip(families, p, strict=True)}
    names = dict.fromkeys(families.values())
    by_family = {name: _mean([copies[copy] for copy in families if families[copy] == name]) for name in names}
    all_copies, worst = _mean(list(copies.values())), min(each.accuracy for each in by_family.values())
    unseen = [each.accuracy for name, each in by_family.items() if name not in trained]
    return BatteryScores(
        shift_accuracy=all_copies.accuracy,
        shift_loss=all_copies.loss,
        shift_specificity=all_copies.specificity,
        shift_auc=all_copies.auc,
        worst_family=worst,
        unseen_shift_accuracy=float(np.mean(unseen)) if unseen else worst,
        families=by_family,
        copies={copy: scores.accuracy for copy, scores in copies.items()},
    )


def _copy_score(truth: npt.NDArray[np.bool_], p: npt.NDArray[np.float64]) -> FamilyScores:
    whole, losses = score(truth, p), log_losses(truth, p)
    loss = float(losses[truth].mean() + losses[~truth].mean()) / 2
    return FamilyScores(whole.balanced_accuracy, loss, whole.specificity, whole.auc)


def _mean(scores: Sequence[FamilyScores]) -> FamilyScores:
    return FamilyScores(*(float(np.mean(values)) for values in zip(*map(astuple, scores), strict=True)))


def brier_score(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Return the mean squared difference of probability and label: 0 is perfect; a constant 0.5 gets 0.25.

    Args:
        labels: (n,) of 0 and 1.
        probabilities: (n,) in [0, 1].

    Source:
        Brier, Monthly Weather Review 78 (1950) 1-3.
    """
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(np.asarray(labels) > 0.5, probabilities))


def calibration_error(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, n_bins: int = 10) -> float:
    """Return the expected calibration error: how far the share of ill images is from the probabilities.

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
    """Return the threshold with the best balanced accuracy when images above it are called ill.

    Args:
        labels: (n,) of 0 and 1, both present.
        probabilities: (n,) in [0, 1].

    Returns:
        0, 0.5, 1 or the middle between two neighbouring probabilities; of equally good ones the nearest to 0.5.

    Source:
        Youden, Cancer 3 (1950) 32-35: balanced accuracy is largest where Youden's index is.
    """
    truth, p = np.asarray(labels) > 0.5, np.asarray(probabilities, dtype=np.float64)
    levels = np.unique(np.append(p, [0.0, 1.0]))
    thresholds = np.concatenate([(levels[:-1] + levels[1:]) / 2, [0.0, 0.5, 1.0]])
    called = p > thresholds[:, None]
    hits, alarms = called[:, truth].sum(axis=1), called[:, ~truth].sum(axis=1)
    # hits / n_ill - alarms / n_normal in whole numbers, so that equally good thresholds compare equal.
    index = hits * int((~truth).sum()) - alarms * int(truth.sum())
    best = thresholds[index == index.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])
