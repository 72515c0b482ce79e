"""Repetitions: configurations trained again on fresh seeds, each seed judged by another fold of the patients."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pneumosearch.config import RunSpec
from pneumosearch.errors import StoreError
from pneumosearch.records.confirmation import WantedReplicates
from pneumosearch.records.trial import REPLICATES, StudyRecord, TrialRecord
from pneumosearch.search.samplers import derived_seed

#: Folds of the development images: each seed is judged by another one, so that five seeds are a cross-validation. Their
#: number does not depend on that of the seeds, so that more seeds reuse what is trained.
N_FOLDS: Final = 5

#: Where the seeds of repetitions begin among those derived from a study's: no search has as many trials.
_FIRST_SEED: Final = 2**31


@dataclass(frozen=True)
class Repetitions:
    """What is trained again, before it is."""

    record: StudyRecord  # of the search
    candidates: tuple[TrialRecord, ...]
    seeds: tuple[int, ...]
    n_folds: int | None = N_FOLDS  # None: the hold-out split judges all, as in confirmations of earlier versions
    without_network: tuple[int, ...] = ()  # numbers of complete repetitions that are trained again, for their network
    n_before: int = 0  # failures of earlier repetitions do not count, as their reason may have passed

    @property
    def study(self) -> str:
        """The study of the repetitions."""
        return self.record.name + REPLICATES

    @cached_property
    def runs(self) -> dict[RunSpec, tuple[TrialRecord, int]]:
        """{run: (candidate, position of its seed)}, all candidates of one seed before the next seed."""
        pairs = itertools.product(enumerate(self.seeds), self.candidates)
        return {self._run(trial, seed, position): (trial, position) for (position, seed), trial in pairs}

    def _run(self, trial: TrialRecord, seed: int, position: int) -> RunSpec:
        run = run_of(trial)
        if self.n_folds is None:
            kept = {"config": run.config, "precision": run.precision, "deterministic": run.deterministic}
            return RunSpec.model_validate({**kept, "seed": seed, "protocol": "holdout"})
        fold = {"fold": position % self.n_folds, "n_folds": self.n_folds}
        # What the pruner of the search saw names no winner, and takes time.
        return RunSpec.model_validate({**dict(run), "seed": seed, "protocol": "holdout", "precise": False, **fold})


def wanted_replicates(plan: Repetitions) -> WantedReplicates:
    """Return the plan as it is stored for the processes that train it."""
    return WantedReplicates(
        candidates=tuple(trial.number for trial in plan.candidates),
        seeds=plan.seeds,
        n_folds=plan.n_folds,
        without_network=plan.without_network,
        n_before=plan.n_before,
    )


def as_wanted(record: StudyRecord, wanted: WantedReplicates) -> Repetitions:
    """Return the plan that is stored so. Raises `StoreError` where the search lacks a candidate."""
    candidates = tuple(map(record.trial, wanted.candidates))
    return Repetitions(record, candidates, wanted.seeds, wanted.n_folds, wanted.without_network, wanted.n_before)


def run_of(trial: TrialRecord) -> RunSpec:
    """Return what a trial trained. Raises `StoreError` where it waits for its turn."""
    if trial.run is None:
        raise StoreError(f"trial {trial.number} has no configuration")
    return trial.run


def fresh_seeds_of(record: StudyRecord, n: int) -> tuple[int, ...]:
    """Return the first `n` seeds that no trial of a search has used. A larger `n` begins alike."""
    used = {training.seed for trial in record.trials if trial.run for training in trial.run.trainings}
    return fresh_seeds(int(str(record.spec["seed"])), used, n)


def fresh_seeds(study_seed: int, used: set[int], n: int) -> tuple[int, ...]:
    """Return the first `n` seeds derived from the study's that are not `used`. A larger `n` begins alike."""
    seeds = (derived_seed(study_seed, number) for number in itertools.count(_FIRST_SEED))
    return tuple(itertools.islice((seed for seed in seeds if seed not in used), n))
