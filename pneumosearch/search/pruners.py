"""When a trial stops: Optuna's pruners, and asynchronous successive halving (ASHA).

`pruner = "promote"` of study files is ASHA as its authors describe it: a trial that stops at a rung is resumed from its
checkpoint when later results leave it among the best. Optuna's own `SuccessiveHalvingPruner` stops trials for good.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.records.attributes import CONTINUES, CONTINUES_AFTER, DUPLICATE_OF, STOPS_AFTER
from pneumosearch.records.trial import is_baseline
from pneumosearch.studyfile import DEFAULT_REDUCTION_FACTOR, StudySpec

#: So many stopped trials keep their checkpoint, the most promising ones. Another one that is promoted trains its first
#: epochs again, with the same numbers.
KEPT_CHECKPOINTS: Final = 10


def make_pruner(spec: StudySpec) -> BasePruner:
    """Return the pruner of a study. `scripts/bench pruners` chose their numbers; figures in results/LOG.md."""
    if spec.engine == "keras-tuner":
        return StopsAfter()
    makers: dict[str, Callable[[], BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=8, n_warmup_steps=1),
        "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=10, reduction_factor=3),
        "promote": lambda: PromotingPruner((0, *spec.rungs) if spec.screening else spec.rungs, spec.reduction_factor),
    }
    return makers[spec.pruner]()


@dataclass(frozen=True)
class Promotion:
    """A trial that stopped at a rung and may be resumed."""

    number: int
    rung: int
    params: dict[str, Any]

    def attributes(self) -> dict[str, Any]:
        """Return the user attributes of the trial that resumes it."""
        return CONTINUES.entry(self.number) | CONTINUES_AFTER.entry(self.rung)


class PromotingPruner(BasePruner):
    """Asynchronous successive halving (ASHA): trials stop at rungs and are promoted from there.

    A trial stops at a rung unless it is among the best of all that reached it, one in `reduction_factor`. Later results
    at the rung may leave it among the best: then `promotions` names it, and a new trial resumes it from its checkpoint.
    The baseline, the first trial, is never stopped. It waits at the first rung until a trial of other values is
    complete, as `defers_baseline` says.

    Args:
        rungs: Epochs after which a trial may stop, rising; 0 is the low-resolution rung, the screening.
        reduction_factor: One in this many goes on.

    Source:
        Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2.
    """

    def __init__(self, rungs: Sequence[int], reduction_factor: int = DEFAULT_REDUCTION_FACTOR) -> None:
        self.rungs, self.reduction_factor = tuple(rungs), reduction_factor

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether `trial` stops at the rung that it has just reached."""
        step, begun = trial.last_step, CONTINUES_AFTER.of(trial)
        if is_baseline(trial) or step not in self.rungs or (begun is not None and step <= begun):
            return False
        trials = study.get_trials(deepcopy=False)
        present = [trial if other.number == trial.number else other for other in trials]
        roots = origins(present)
        return roots[trial.number] not in self._best(present, roots, step, _sign(study))

    def promotions(self, study: optuna.Study) -> list[Promotion]:
        """Return the stopped trials that may be resumed now: highest rung first, and within it the best first."""
        trials = study.get_trials(deepcopy=False)
        roots, last = origins(trials), [trial for trial in latest(trials) if trial.state == TrialState.PRUNED]
        found = []
        for rung in reversed(self.rungs):
            stopped = {roots[trial.number]: trial for trial in last if _stopped_at(trial, rung)}
            best = [root for root in self._best(trials, roots, rung, _sign(study)) if root in stopped]
            found += [Promotion(stopped[root].number, rung, stopped[root].params) for root in best]
        return found

    def defers_baseline(self, study: optuna.Study) -> bool:
        """Tell whether the baseline is at the first rung and none of other values is complete: it lets others go first.

        A search of a few minutes would otherwise spend half of them on what is known already.
        """
        trials = study.get_trials(deepcopy=False)
        rung = next((rung for rung in self.rungs if rung > 0), -1)  # the baseline has no low-resolution rung
        baseline = next(filter(is_baseline, trials), None)
        if baseline is None or baseline.state != TrialState.RUNNING or baseline.last_step != rung:
            return False
        return all(trial.state != TrialState.COMPLETE for trial in trials if trial.params != baseline.params)

    def finalist(self, study: optuna.Study) -> Promotion | None:
        """Return the best stopped trial where no other configuration than the baseline's is complete.

        A short study may end like that: so few trials reach a rung that none of them is promoted.
        """
        trials = study.get_trials(deepcopy=False)
        of_baseline = [trial.params for trial in trials if is_baseline(trial)]
        others = [trial for trial in trials if trial.params not in of_baseline]
        if any(trial.state == TrialState.COMPLETE for trial in others):
            return None
        best = self._stopped(study, others)[:1]
        return Promotion(best[0].number, best[0].last_step or 0, best[0].params) if best else None

    def kept(self, study: optuna.Study, n: int = KEPT_CHECKPOINTS) -> set[int]:
        """Return the numbers of the `n` stopped trials that are most likely to be resumed."""
        return {trial.number for trial in self._stopped(study, study.get_trials(deepcopy=False))[:n]}

    def _stopped(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials that stopped at a rung: the highest rung first, and within it the best first."""
        last = latest(trials)
        stopped = [
            (rung, _sign(study) * trial.intermediate_values[rung], -trial.number, trial)
            for rung in self.rungs
            for trial in last
            if _stopped_at(trial, rung)
        ]
        return [trial for *_, trial in sorted(stopped, key=lambda entry: entry[:3], reverse=True)]

    def _best(self, trials: Sequence[FrozenTrial], roots: Mapping[int, int], rung: int, sign: float) -> list[int]:
        """Return the origins of the best trials at a rung, which are promoted; `roots` are those of the trials."""
        values = {roots[trial.number]: trial.intermediate_values[rung] for trial in trials if _was_at(trial, rung)}
        ranked = sorted(values, key=lambda root: (-sign * values[root], root))
        return ranked[: len(ranked) // self.reduction_factor]


class StopsAfter(BasePruner):
    """Stops a trial after the epochs that KerasTuner's Hyperband gives it, so that another may continue it."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial has trained its epochs."""
        stops_after = STOPS_AFTER.of(trial)
        return stops_after is not None and (trial.last_step or 0) >= stops_after


def latest(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials without those that another resumes."""
    trials = list(trials)
    continued = {CONTINUES.stored(trial) for trial in trials}
    return [trial for trial in trials if trial.number not in continued]


def origins(trials: Iterable[FrozenTrial]) -> dict[int, int]:
    """Return, by the number of each trial, the first trial of the chain of resumed trials that it belongs to."""
    roots: dict[int, int] = {}
    for trial in trials:  # in order of number: a trial resumes an earlier one
        continues = CONTINUES.stored(trial)
        roots[trial.number] = trial.number if continues is None else roots[continues]
    return roots


def _was_at(trial: FrozenTrial, rung: int) -> bool:
    return rung in trial.intermediate_values and not DUPLICATE_OF.on(trial)


def _stopped_at(trial: FrozenTrial, rung: int) -> bool:
    return trial.state == TrialState.PRUNED and trial.last_step == rung and _was_at(trial, rung)


def _sign(study: optuna.Study) -> float:
    return 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
