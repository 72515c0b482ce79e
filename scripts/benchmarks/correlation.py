"""Spearman's rank correlation with a bootstrap interval over configurations."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]

RESAMPLES = 2000


class Correlation(NamedTuple):
    """Spearman's rank correlation and its 95% percentile bootstrap interval."""

    value: float
    low: float
    high: float


def correlation(seen: Array, result: Array) -> Correlation | None:
    """Correlate what was seen of each configuration with its result.

    Args:
        seen: (n, k), k measurements of each of n configurations, each correlated by itself.
        result: (n,) or (n, k).

    Returns:
        The mean correlation over the k measurements; None where one of them, or the result, is the same everywhere.
    """
    result = np.broadcast_to(result.reshape(len(seen), -1), seen.shape)
    whole = _spearman(seen[None], result[None])
    if not np.isfinite(whole).all():
        return None
    draws = np.random.default_rng(0).integers(len(seen), size=(RESAMPLES, len(seen)))
    values = _spearman(seen[draws], result[draws]).mean(axis=-1)
    low, high = np.percentile(values[np.isfinite(values)], [2.5, 97.5])  # a resample of equal values has no ranks
    return Correlation(float(whole.mean()), float(low), float(high))


def _spearman(x: Array, y: Array) -> Array:
    """Correlate (draws, n, k) along n; NaN where all are equal."""
    ranks_x, ranks_y = (rankdata(values, axis=1) for values in (x, y))  # a resampled configuration ties with itself
    centred_x, centred_y = (ranks - ranks.mean(1, keepdims=True) for ranks in (ranks_x, ranks_y))
    spread = np.sqrt((centred_x**2).sum(1) * (centred_y**2).sum(1))
    shared = (centred_x * centred_y).sum(1)
    return np.asarray(np.divide(shared, spread, out=np.full_like(shared, np.nan), where=spread > 0))
