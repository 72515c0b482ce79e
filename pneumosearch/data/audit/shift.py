"""How far plain features tell one set of images from another: by each alone, and by a trivial model of all."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pneumosearch.data.audit.features import Features, Reading
from pneumosearch.intervals import bootstrap_aucs
from pneumosearch.records.classes import Classes

Floats = npt.NDArray[np.float64]

#: Fewest images on either side of a comparison.
MIN_IMAGES: Final = 10

_FOLDS: Final = 5
_BINS: Final = 24
_RESAMPLES: Final = 1000  # the ends of an interval are then known to a tenth of its width, which is enough here
_SEED: Final = 0


class _Finding(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class FeatureDifference(_Finding):
    """How one feature differs between two sets of images."""

    feature: str
    first_mean: float
    second_mean: float
    standardised: float  # (second mean - first mean) / deviation within the two sets
    auc: float  # chance that an image of the second set exceeds one of the first; 0.5 is no difference
    auc_low: float
    auc_high: float


class TrivialModel(_Finding):
    """A logistic regression of all features, judged on images of patients it was not fitted on."""

    auc: float
    auc_low: float
    auc_high: float
    n_folds: int


class ShiftComparison(_Finding):
    """Two sets of images set side by side; 95 % intervals are by bootstrap over patients."""

    first: str  # such as "train NORMAL"
    second: str
    n_first: int
    n_second: int
    features: list[FeatureDifference]
    model: TrivialModel | None  # None where there are too few patients


class Histogram(_Finding):
    """A feature's distribution in each set, as shares of the set's images."""

    feature: str
    edges: list[float]
    shares: dict[str, list[float]]  # {"train NORMAL": ...}


def compare_all(readings: Sequence[Reading], classes: Classes) -> list[ShiftComparison]:
    """Compare the classes within train, and train with test within each class, where there are images enough."""
    sets = [(("train", 0), ("train", 1)), (("train", 0), ("test", 0)), (("train", 1), ("test", 1))]
    pairs = [(_chosen(readings, *first), _chosen(readings, *second)) for first, second in sets]
    return [_compare(first, second, classes) for first, second in pairs if min(len(first), len(second)) >= MIN_IMAGES]


def histograms(readings: Sequence[Reading], classes: Classes) -> list[Histogram]:
    """Return the distribution of each feature in train and test, by class; the outermost hundredths are cut off."""
    sets = [_chosen(readings, split, label) for split in ("train", "test") for label in (0, 1)]
    tables = {set_name(chosen[0], classes): _table(chosen) for chosen in sets if chosen}
    if not tables:
        return []
    every = np.vstack(list(tables.values()))
    found = []
    for k, feature in enumerate(Features._fields):
        low, high = np.quantile(every[:, k], (0.005, 0.995))
        edges = np.linspace(low, high, _BINS + 1) if high > low else np.linspace(low - 0.5, high + 0.5, _BINS + 1)
        shares = {
            name: [float(n) / len(t) for n in np.histogram(np.clip(t[:, k], edges[0], edges[-1]), edges)[0]]
            for name, t in tables.items()
        }
        found.append(Histogram(feature=feature, edges=edges.tolist(), shares=shares))
    return found


def set_name(reading: Reading, classes: Classes) -> str:
    """Return the split and class that a reading belongs to, such as "train NORMAL"."""
    return f"{reading.image.split} {classes[reading.image.label]}"


def _chosen(readings: Sequence[Reading], split: str, label: int) -> list[Reading]:
    return [r for r in readings if r.image.split == split and r.image.label == label]


def _table(readings: Sequence[Reading]) -> Floats:
    return np.array([reading.features for reading in readings], dtype=np.float64)


def _compare(first: list[Reading], second: list[Reading], classes: Classes) -> ShiftComparison:
    table = _table([*first, *second])
    sides = np.repeat([0, 1], [len(first), len(second)])
    # A name that occurs in train and test may be one patient: kept on one side of every fold to be safe.
    patients = [reading.image.patient for reading in (*first, *second)]
    areas = bootstrap_aucs(sides, table.T, patients, seed=_SEED, n_resamples=_RESAMPLES)
    return ShiftComparison(
        first=set_name(first[0], classes),
        second=set_name(second[0], classes),
        n_first=len(first),
        n_second=len(second),
        features=[
            _difference(feature, values[sides == 0], values[sides == 1], area)
            for feature, values, area in zip(Features._fields, table.T, areas, strict=True)
        ],
        model=_trivial_model(table, sides, patients),
    )


def _difference(feature: str, first: Floats, second: Floats, area: tuple[float, float, float]) -> FeatureDifference:
    constant = first.min() == first.max() == second.min() == second.max()  # whose mean may be rounded
    deviation = 0.0 if constant else float(np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2))
    means = float(first.mean()), float(second.mean())
    return FeatureDifference(
        feature=feature,
        first_mean=means[0],
        second_mean=means[1],
        standardised=(means[1] - means[0]) / deviation if deviation > 0 else 0.0,
        auc=area[0],
        auc_low=area[1],
        auc_high=area[2],
    )


def _trivial_model(table: Floats, sides: npt.NDArray[np.int64], patients: list[str]) -> TrivialModel | None:
    """Fit and judge a logistic regression by cross-validation, with each patient in one fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n_patients = [len({p for p, side in zip(patients, sides, strict=True) if side == wanted}) for wanted in (0, 1)]
    n_folds = min(_FOLDS, *n_patients)
    if n_folds < 2:
        return None
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=_SEED)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_predict(model, table, sides, groups=patients, cv=folds, method="decision_function")
    [(auc, low, high)] = bootstrap_aucs(sides, scores[None, :], patients, seed=_SEED, n_resamples=_RESAMPLES)
    return TrivialModel(auc=auc, auc_low=low, auc_high=high, n_folds=n_folds)
