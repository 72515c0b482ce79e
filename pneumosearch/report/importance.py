"""Importance of the searched hyperparameters, by PED-ANOVA.

Optuna has it too, in a package that imports scikit-learn, SciPy and pandas for its other evaluators: more than half of
the time of a report on a hundred trials. A test compares the two.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from pneumosearch.metrics import direction
from pneumosearch.records.trial import StudyRecord
from pneumosearch.studyfile import checked_spec

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_BEST: Final = 0.1  # the share of the trials that is compared with all
_MAX_STEPS: Final = 50  # of the grid on which a range is looked at
_FEW: Final = 2  # a field that fewer trials chose has no importance
_NARROWEST: Final = 0.5 / 1.64  # standard deviation of a kernel, in steps: 90 % of it lie in one step
_TINY: Final = 1e-12  # is added to each density


def importance(record: StudyRecord) -> dict[str, float]:
    """Return the importance of each searched hyperparameter by PED-ANOVA.

    It says how much the values of the best tenth of the trials differ from those of all trials.

    Returns:
        {name: share}, largest share first. The shares sum to 1. The result is empty if fewer than four trials are
        complete or if all of them have the same value.

    Sources:
        Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
        Subspaces", IJCAI 2023. Conditional hyperparameters: theorem 4.2 of https://arxiv.org/abs/2601.20800, 2026.
    """
    searched = record.spec.get("space")
    complete = [trial for trial in record.trials if trial.value is not None and trial.run]
    if not isinstance(searched, dict) or len(complete) < 4 or len({trial.value for trial in complete}) < 2:
        return {}
    configs = [vars(trial.run.config) for trial in complete if trial.run]
    losses = np.array([trial.value for trial in complete]) * (-1 if direction(record.metric) == "maximize" else 1)
    best = losses <= np.sort(losses)[math.ceil(_BEST * len(losses)) - 1]
    found = {}
    for name, dimension in checked_spec(dict(record.spec), "stored study").search_space().dimensions.items():
        chosen = np.array([dimension.active(config) for config in configs])
        values = [config[name] for config, is_chosen in zip(configs, chosen, strict=True) if is_chosen]
        if values:
            found[name] = _importance(dimension.distribution(), values, best[chosen])
    total = sum(found.values())
    shares = {name: each / total if total else 1 / len(found) for name, each in found.items()}
    return dict(sorted(shares.items(), key=lambda share: -share[1]))


def _importance(distribution: BaseDistribution, values: Sequence[Any], best: Flags) -> float:
    """Return the importance of a hyperparameter, in a unit that all of a study have in common.

    Args:
        distribution: Its range.
        values: (n,) of the trials that chose it.
        best: (n,) which of these are among the best of all trials.
    """
    if len(values) < _FEW or distribution.single() or not best.any():
        return 0.0
    places, n_steps = _places(distribution, values)
    density = _density_of_choices if isinstance(distribution, CategoricalDistribution) else _density_of_numbers
    of_all, of_best = (density(np.bincount(each, minlength=n_steps)) + _TINY for each in (places, places[best]))
    # The squared share of the best that chose it, by the share of all that did, but for a constant of the study.
    return float(best.sum() ** 2 / len(values) * (of_all @ (of_best / of_all - 1) ** 2))


def _places(distribution: Any, values: Sequence[Any]) -> tuple[npt.NDArray[np.int64], int]:
    """Return where values lie on the grid of a range, from 0, and its number of steps."""
    if isinstance(distribution, CategoricalDistribution):
        return np.array([distribution.choices.index(value) for value in values]), len(distribution.choices)
    low, high, numbers, n_steps = distribution.low, distribution.high, np.asarray(values), _MAX_STEPS
    if distribution.log:
        if isinstance(distribution, IntDistribution):
            n_steps = min(n_steps, math.ceil(math.log2(high - low + 1)) + 1)
        low, high, numbers = math.log(low), math.log(high), np.log(numbers)
    elif distribution.step is not None:
        n_steps = min(n_steps, round((high - low) / distribution.step) + 1)
    places = np.ceil((numbers - low) / (high - low) * (n_steps - 1) - 0.5)  # in the middle: the lower one
    return np.clip(places, 0, n_steps - 1).astype(int), n_steps


def _density_of_choices(counts: npt.NDArray[np.int64]) -> Floats:
    """Return the density at each choice, with one observation more that is equal at all."""
    n, n_choices, n_kernels = counts.sum(), len(counts), np.count_nonzero(counts) + 1
    kernels = (counts + n / n_kernels) / (1 + n_choices / n_kernels)
    return np.asarray((kernels + 1 / n_choices) / (n + 1))


def _density_of_numbers(counts: npt.NDArray[np.int64]) -> Floats:
    """Return the density at each step: normal kernels by Scott's rule, and a wide one in the middle."""
    n, n_steps = counts.sum(), len(counts)
    places = np.flatnonzero(counts)
    mean = counts @ np.arange(n_steps) / n
    deviation = math.sqrt(counts @ (np.arange(n_steps) - mean) ** 2 / max(1, n - 1))
    below = np.cumsum(counts[places])
    last = min(len(places) - 1, int(np.searchsorted(below, n * 3 // 4, side="right")))
    quartiles = places[last] - places[np.searchsorted(below, n // 4)]
    width = max(_NARROWEST, 1.059 * min(quartiles / 1.34, deviation) * n**-0.2)
    centres = np.append(places, (n_steps - 1) / 2)[:, None]
    widths = np.append(np.full(len(places), width), n_steps)[:, None]
    edges = (np.arange(n_steps + 1) - 0.5 - centres) / (widths * math.sqrt(2))
    below_edges = np.vectorize(math.erf)(edges)
    kernels = np.diff(below_edges, axis=1) / (below_edges[:, -1:] - below_edges[:, :1])
    return np.asarray(np.append(counts[places], 1) @ kernels / (n + 1))
