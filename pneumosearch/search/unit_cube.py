"""The ranges of a space as the interval from 0 to 1, and draws around a value."""

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


def around(centre: Any, distribution: BaseDistribution, rng: np.random.Generator, *, width: float, keep: float) -> Any:
    """Draw a value around `centre`.

    Args:
        centre: A value of the range.
        distribution: The range.
        rng: Draws.
        width: Standard deviation in shares of a numeric range.
        keep: Probability that a choice stays as it is; otherwise it is any of the choices.
    """
    if isinstance(distribution, CategoricalDistribution):
        return centre if rng.random() < keep else distribution.choices[rng.integers(len(distribution.choices))]
    middle = to_unit(centre, distribution)
    draws = rng.normal(middle, width, size=100)
    inside = draws[(draws >= 0) & (draws <= 1)]
    return from_unit(float(inside[0]) if len(inside) else middle, distribution)


def to_unit(value: float, distribution: Any) -> float:
    """Map a value of a numeric range to [0, 1], by its logarithm where the range is logarithmic."""
    low, high = _bounds(distribution)
    position = float(np.log(value)) if distribution.log else float(value)
    return (position - low) / (high - low) if high > low else 0.5


def from_unit(share: float, distribution: BaseDistribution) -> float | int:
    """Map [0, 1] back to a numeric range and onto its grid."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101  what else is numeric
    low, high = _bounds(distribution)
    value = low + share * (high - low)
    value = float(np.exp(value)) if distribution.log else value
    if distribution.step is not None and not distribution.log:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    value = min(max(value, distribution.low), distribution.high)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)


def _bounds(distribution: Any) -> tuple[float, float]:
    low, high = float(distribution.low), float(distribution.high)
    return (float(np.log(low)), float(np.log(high))) if distribution.log else (low, high)
