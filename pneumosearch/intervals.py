"""Statistics: confidence intervals, tests, and what noise does to the best of many."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Resamples of a bootstrap: the ends of a 95% interval are then known to a few hundredths of its width.
N_RESAMPLES: Final = 2000


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, as fractions.

    Args:
        successes: Between 0 and n.
        n: At least 1.
        confidence: In (0, 1).

    Source:
        Wilson, Journal of the American Statistical Association 22 (1927) 209-212.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval of the mean of a sample; the mean itself, twice, of a single value.

    Args:
        values: At least one.
        confidence: In (0, 1).

    Source:
        Student, Biometrika 6 (1908) 1-25.
    """
    from scipy.stats import t

    mean, error = float(np.mean(values)), sample_deviation(values) / math.sqrt(len(values))
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * error if error > 0 else 0.0
    return mean - half, mean + half


def sample_deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1 in the denominator); 0 of a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def pooled_deviation(samples: Sequence[Sequence[float]]) -> float | None:
    """Return the common standard deviation within several samples; None where none has two values."""
    freedom = sum(len(sample) - 1 for sample in samples)
    if freedom == 0:
        return None
    squares = sum((len(sample) - 1) * sample_deviation(sample) ** 2 for sample in samples)
    return math.sqrt(squares / freedom)


def residual_deviation(table: Sequence[Sequence[float | None]]) -> float | None:
    """Return the standard deviation that is left in a table when the effects of its rows and columns are taken out.

    Args:
        table: Rows of equal length; None where a cell is empty, and no row and no column is all empty.

    Returns:
        None where there are too few cells to estimate it.
    """
    cells = [(row, column, y) for row, ys in enumerate(table) for column, y in enumerate(ys) if y is not None]
    design = np.zeros((len(cells), len(table) + len(table[0])))
    for n, (row, column, _) in enumerate(cells):
        design[n, [row, len(table) + column]] = 1.0
    values = np.array([y for *_, y in cells])
    solution, _, rank, _ = np.linalg.lstsq(design, values)
    freedom = len(cells) - int(rank)
    return math.sqrt(float(np.sum((values - design @ solution) ** 2)) / freedom) if freedom else None


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test that two classifiers err equally often.

    Args:
        only_first: Images that only the first classifier gets right.
        only_second: Images that only the second classifier gets right.

    Source:
        McNemar, Psychometrika 12 (1947) 153-157, with the binomial distribution in place of the chi-square.
    """
    from scipy.stats import binomtest

    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's step-down method, in the order given.

    Source:
        Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def expected_maximum(n: int) -> float:
    """Return the expected largest of n independent draws from the standard normal distribution.

    Source:
        Tippett, Biometrika 17 (1925) 364-387.
    """
    from scipy.stats import Normal, order_statistic

    return max(0.0, float(order_statistic(Normal(), r=n, n=n).mean()))  # n = 1 may round below 0


def expected_luck(n_searched: int, deviation: float) -> float:
    """Return by how much noise alone lifts the best of equal configurations above their mean (winner's curse).

    Args:
        n_searched: Configurations, at least 1.
        deviation: Standard deviation of one configuration's figure; the result has its unit.
    """
    return expected_maximum(n_searched) * deviation


@dataclass(frozen=True)
class Differences:
    """How far one candidate is ahead of another, with 95% intervals; fractions."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    auc: float
    auc_low: float
    auc_high: float


def bootstrap_differences(
    labels: npt.ArrayLike,
    first: Floats,
    second: Floats,
    patients: Sequence[str],
    *,
    threshold: float = 0.5,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> Differences:
    """Compare two candidates' mean accuracy and AUC by a paired bootstrap over patients and seeds.

    Each resample draws patients with all their images, and seeds, with replacement, the same for both candidates.

    Args:
        labels: (n_images,) of 0 (normal) and 1 (pneumonia), both present.
        first: (n_seeds, n_images) probabilities of pneumonia of the candidate that is ahead where positive.
        second: (n_seeds, n_images) of the other, from the same seeds.
        patients: (n_images,) the patient of each image.
        threshold: Above it an image is called ill.
        confidence: Of the intervals, in (0, 1).
        seed: Of the resampling.
        n_resamples: How often patients and seeds are drawn.

    Returns:
        The differences, with percentiles over the resamples: 2.5 and 97.5 where the confidence is 0.95. Where a
        resample has images of one class only, it has no AUC and is left out of that interval.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
    """
    truth = np.asarray(labels) > 0.5
    weights, seed_weights = _resamples(patients, len(first), n_resamples, seed)
    right = ((first > threshold) == truth).astype(np.float64) - ((second > threshold) == truth)
    accuracy = _averaged(weights @ right.T / weights.sum(axis=1, keepdims=True), seed_weights)
    areas = weighted_auc(truth, first, weights) - weighted_auc(truth, second, weights)
    both = (accuracy, _averaged(areas, seed_weights))
    return Differences(*(value for one in both for value in _with_interval(one, confidence)))


def weighted_auc(truth: npt.NDArray[np.bool_], probabilities: Floats, weights: Floats) -> Floats:
    """Return the area under the ROC curve of each set of image weights and each row of probabilities.

    Args:
        truth: (n_images,), which images are ill.
        probabilities: (n_seeds, n_images).
        weights: (n_sets, n_images), at least 0.

    Returns:
        (n_sets, n_seeds), NaN where a class has no weight. It is the share of pairs of an ill and a normal image that
        are ranked rightly, a tie counting half (Mann and Whitney).
    """
    areas = np.full((len(weights), len(probabilities)), np.nan)
    pairs = weights[:, truth].sum(axis=1) * weights[:, ~truth].sum(axis=1)
    for column, p in enumerate(probabilities):
        order = np.argsort(p, kind="stable")
        starts = np.flatnonzero(np.diff(p[order], prepend=-np.inf))  # where each level of probability begins
        sorted_weights, is_ill = weights[:, order], truth[order]
        ill = np.add.reduceat(sorted_weights * is_ill, starts, axis=1)
        normal = np.add.reduceat(sorted_weights * ~is_ill, starts, axis=1)
        below = np.cumsum(normal, axis=1) - normal / 2
        np.divide((ill * below).sum(axis=1), pairs, out=areas[:, column], where=pairs > 0)
    return areas


def bootstrap_aucs(
    labels: npt.ArrayLike,
    scores: Floats,
    patients: Sequence[str],
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> list[tuple[float, float, float]]:
    """Return the AUC of each row of scores, with a 95% bootstrap interval over patients.

    Args:
        labels: (n_images,) of 0 and 1, both present.
        scores: (n_rows, n_images) finite numbers, expected to be higher where the label is 1.
        patients: (n_images,) the patient of each image; a patient is drawn with all images.
        seed: Of the resampling.
        n_resamples: How often patients are drawn.

    Returns:
        (AUC, 2.5 percentile, 97.5 percentile) for each row; resamples with one class only are left out.
    """
    weights, _ = _resamples(patients, 1, n_resamples, seed)
    areas = weighted_auc(np.asarray(labels) > 0.5, scores, weights)
    return [_with_interval(column) for column in areas.T]


def bootstrap_means(
    values: Floats, strata: npt.ArrayLike, patients: Sequence[str], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> tuple[float, float, float]:
    """Return the mean over strata of the mean of each, with a 95% bootstrap interval over patients.

    Args:
        values: (n_images,), such as 1 where an image is called right and 0 elsewhere.
        strata: (n_images,) whose means count alike, such as the class: the result is then the balanced accuracy.
        patients: (n_images,) the patient of each image; a patient is drawn with all images.
        seed: Of the resampling.
        n_resamples: How often patients are drawn.

    Returns:
        (mean, 2.5 percentile, 97.5 percentile); resamples that lack a stratum are left out.
    """
    weights, _ = _resamples(patients, 1, n_resamples, seed)
    means = []
    for inside in (np.asarray(strata) == stratum for stratum in np.unique(strata)):
        sums, of = weights[:, inside].sum(axis=1), weights[:, inside] @ values[inside]
        means.append(np.divide(of, sums, out=np.full(len(sums), np.nan), where=sums > 0))
    return _with_interval(np.mean(means, axis=0))


def _resamples(patients: Sequence[str], n_seeds: int, n: int, seed: int) -> tuple[Floats, Floats]:
    """Return image weights (n + 1, n_images) and seed weights (n + 1, n_seeds); the first of each is the data."""
    generator = np.random.default_rng(seed)
    names, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    seeds = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n)
    counts = np.vstack([np.ones((1, len(names))), drawn])
    return counts[:, patient_of], np.vstack([np.ones((1, n_seeds)), seeds]) / n_seeds


def _averaged(values: Floats, seed_weights: Floats) -> Floats:
    return np.asarray((values * seed_weights).sum(axis=1))


def _with_interval(values: Floats, confidence: float = 0.95) -> tuple[float, float, float]:
    low, high = np.nanquantile(values[1:], ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(values[0]), float(low), float(high)
