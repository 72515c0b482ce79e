"""A sampler that looks where earlier studies were good, as long as this study agrees with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.records.attributes import DUPLICATE_OF, PASSED_OVER
from pneumosearch.records.earlier import EarlierStudy
from pneumosearch.search.earlier import ranks
from pneumosearch.search.pruners import latest
from pneumosearch.search.unit_cube import around, to_unit
from pneumosearch.space import Space

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Weight:
    """How much earlier studies count. Replayed searches chose the numbers: `scripts/bench learning`."""

    counts: float = 30.0
    """Earlier studies propose the share counts / (counts + n) of the trials, after n of this study have ended."""
    proof: float = 5.0
    """So many trials of full agreement are assumed before this study has its own; infinite where none are looked at."""
    good: float = 1 / 3
    """Proposals lie around the trials of this best share of an earlier study."""
    width: float = 0.15
    """Standard deviation of a proposal around such a trial, in shares of a range."""
    keep: float = 0.8
    """Probability that a choice stays as it was there."""


#: What `--learn-from` uses.
WEIGHT: Final = Weight()


class InformedSampler(BaseSampler):
    """Proposes some trials from around the good ones of earlier studies, and the others by another sampler.

    Args:
        sampler: Proposes the other trials, and the fields that an earlier study did not search.
        space: What is searched.
        earlier: What was taken over from earlier studies, at least one.
        seed: Of one trial; each trial has a new sampler.
        weight: How much the earlier studies count.

    An earlier study counts less as this one gets trials of its own, and as far as it foretells their ranks: where it
    misleads, its share goes to zero. Only ranks are compared, because figures of different metrics, protocols or image
    sizes mean different things. The idea to weigh an earlier study by the ranks that it gets right: Feurer, Letham and
    Bakshy, "Scalable Meta-Learning for Bayesian Optimization using Ranking-Weighted Gaussian Process Ensembles", 2018.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        space: Space,
        earlier: Sequence[EarlierStudy],
        seed: int,
        weight: Weight = WEIGHT,
    ) -> None:
        self._sampler, self._earlier, self._weight = sampler, earlier, weight
        self._distributions = {name: dimension.distribution() for name, dimension in space.dimensions.items()}
        self._rng = np.random.default_rng([seed, len(earlier)])  # not the numbers that `sampler` draws
        self._centre: Mapping[str, Any] = {}  # of this trial; empty where the other sampler proposes it

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose where the proposal comes from."""
        self._centre = self._choose(study)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Draw each field for itself around an earlier trial; else ask the other sampler."""
        return {} if self._centre else self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw each field for itself around an earlier trial; else ask the other sampler."""
        return {} if self._centre else self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a field around an earlier trial; else, or where that study did not search it, ask the other sampler."""
        if param_name not in self._centre:
            return self._sampler.sample_independent(study, trial, param_name, param_distribution)
        width, keep = self._weight.width, self._weight.keep
        return around(self._centre[param_name], param_distribution, self._rng, width=width, keep=keep)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the other sampler learn."""
        self._sampler.after_trial(study, trial, state, values)

    def _choose(self, study: optuna.Study) -> Mapping[str, Any]:
        source = self._earlier[int(self._rng.integers(len(self._earlier)))]
        draw, own, counts = self._rng.random(), _ended(study), self._weight.counts
        share = counts / (counts + len(own))
        if draw >= share or draw >= share * self._trust(source, own, study):
            return {}
        good = sorted(source.trials, key=lambda trial: -trial.score)
        good = good[: max(1, round(len(good) * self._weight.good))]
        odds = np.arange(len(good), 0, -1, dtype=float)
        return good[int(self._rng.choice(len(good), p=odds / odds.sum()))].values

    def _trust(self, source: EarlierStudy, own: Sequence[FrozenTrial], study: optuna.Study) -> float:
        """Return from 0 to 1 how far the ranks of this study's trials are as the earlier study foretells them."""
        if np.isinf(self._weight.proof):
            return 1.0
        proof, n = self._weight.proof, len(own)
        return max(0.0, (proof + n * self._agreement(source, own, study)) / (proof + n))

    def _agreement(self, source: EarlierStudy, own: Sequence[FrozenTrial], study: optuna.Study) -> float:
        """Return the rank correlation of what the earlier study foretells with this study's trials; 0 for too few."""
        if len(own) < 3:
            return 0.0
        names = list(source.trials[0].values)
        there = self._places([trial.values for trial in source.trials], names)
        here = self._places([trial.params for trial in own], names)
        foretold = _foretold(here, there, np.array([trial.score for trial in source.trials]))
        found = ranks([_merit(trial, study) for trial in own])
        pair = np.array([ranks([(value,) for value in foretold.tolist()]), found])
        return float(np.corrcoef(pair)[0, 1]) if (pair.std(axis=1) > 0).all() else 0.0

    def _places(self, configurations: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Floats:
        """Return configurations as points of the unit cube; a field that is not chosen lies in the middle."""
        return np.array([[self._place(values, name) for name in names] for values in configurations])

    def _place(self, values: Mapping[str, Any], name: str) -> float:
        distribution = self._distributions[name]
        if name not in values:
            return 0.5
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices.index(values[name]) / max(1, len(distribution.choices) - 1)
        return to_unit(values[name], distribution)


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have a result, each configuration once."""
    trials = latest(study.get_trials(deepcopy=False))
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return [t for t in trials if t.state in states and not PASSED_OVER.on(t) and not DUPLICATE_OF.on(t)]


def _merit(trial: FrozenTrial, study: optuna.Study) -> tuple[float, ...]:
    """Return what orders this study's trials, as `earlier` orders those of others."""
    sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
    if trial.state == TrialState.COMPLETE:
        return 1.0, 0.0, sign * (trial.value or 0.0)
    step = trial.last_step
    return (0.0, -1.0, 0.0) if step is None else (0.0, float(step), sign * trial.intermediate_values[step])


def _foretold(here: Floats, there: Floats, scores: Floats) -> Floats:
    """Return the mean score of the earlier trials around each point, the near ones weighing most."""
    squares = (here**2).sum(axis=1)[:, None] + (there**2).sum(axis=1)[None] - 2 * here @ there.T
    nearness = np.exp(-4 * squares / max(float(np.median(squares)), 1e-9))
    return np.asarray(nearness @ scores / nearness.sum(axis=1))
