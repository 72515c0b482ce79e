"""When a trial stops: Optuna's pruners, and successive halving whose stopped trials may go on later."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.studyfile import DEFAULT_REDUCTION_FACTOR, StudySpec

#: State is kept for so many trials that stopped at a rung, the most promising ones; one beyond them that is promoted
#: all the same trains its first epochs again, with the same numbers.
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
    """A trial that stopped at a rung and may go on."""

    number: int
    rung: int
    params: dict[str, Any]

    def attributes(self) -> dict[str, Any]:
        """Return the user attributes of the trial that continues it."""
        return {"continues": self.number, "continues_after": self.rung}


class PromotingPruner(BasePruner):
    """Asynchronous successive halving by promotion.

    A trial stops at a rung unless it is among the best of all that reached it, one in `reduction_factor`; when others
    come to it later and leave it among the best, `promotions` names it, and a new trial continues it from its
    checkpoint. The first trial, the baseline, is never stopped, but `defers_baseline` at the first rung until another
    is complete.

    Args:
        rungs: Epochs after which a trial may stop, rising; 0 is its screening.
        reduction_factor: One in this many goes on.

    Source:
        Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2.
    """

    def __init__(self, rungs: Sequence[int], reduction_factor: int = DEFAULT_REDUCTION_FACTOR) -> None:
        self.rungs, self.reduction_factor = tuple(rungs), reduction_factor

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether `trial` stops at the rung that it has just reached."""
        step = trial.last_step
        if trial.number == 0 or step not in self.rungs or step <= trial.user_attrs.get("continues_after", -1):
            return False
        trials = study.get_trials(deepcopy=False)
        present = [trial if other.number == trial.number else other for other in trials]
        return origins(present)[trial.number] not in self._best(present, step, _sign(study))

    def promotions(self, study: optuna.Study) -> list[Promotion]:
        """Return the stopped trials that may go on now: of the highest rung first, and there the best."""
        trials = study.get_trials(deepcopy=False)
        roots = origins(trials)
        found = []
        for rung in reversed(self.rungs):
            stopped = {roots[trial.number]: trial for trial in latest(trials) if _stopped_at(trial, rung)}
            best = [root for root in self._best(trials, rung, _sign(study)) if root in stopped]
            found += [Promotion(stopped[root].number, rung, stopped[root].params) for root in best]
        return found

    def defers_baseline(self, study: optuna.Study) -> bool:
        """Tell whether the first trial, trained to the first rung, lets others go first until one of them is complete.

        So a search of a few minutes does not spend half of them on what is known already, even where it is among the
        best there.
        """
        trials = study.get_trials(deepcopy=False)
        rung = next((rung for rung in self.rungs if rung > 0), -1)  # the baseline is not screened
        if not trials or trials[0].state != TrialState.RUNNING or trials[0].last_step != rung:
            return False
        return all(trial.state != TrialState.COMPLETE for trial in trials)

    def kept(self, study: optuna.Study, n: int = KEPT_CHECKPOINTS) -> set[int]:
        """Return the numbers of the `n` stopped trials that are most likely to go on."""
        trials = study.get_trials(deepcopy=False)
        stopped = [
            (rung, _sign(study) * trial.intermediate_values[rung], -trial.number)
            for rung in self.rungs
            for trial in latest(trials)
            if _stopped_at(trial, rung)
        ]
        return {-negative for _, _, negative in sorted(stopped, reverse=True)[:n]}

    def _best(self, trials: Sequence[FrozenTrial], rung: int, sign: float) -> list[int]:
        """Return the origins of the best trials at a rung, those that may go on."""
        roots = origins(trials)
        values = {roots[trial.number]: trial.intermediate_values[rung] for trial in trials if _was_at(trial, rung)}
        ranked = sorted(values, key=lambda root: (-sign * values[root], root))
        return ranked[: len(ranked) // self.reduction_factor]


class StopsAfter(BasePruner):
    """Stops a trial after the epochs that KerasTuner's Hyperband gives it, so that another may continue it."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial has had its epochs."""
        stops_after: int | None = trial.user_attrs.get("stops_after")
        return stops_after is not None and (trial.last_step or 0) >= stops_after


def latest(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials without those that another continues."""
    trials = list(trials)
    continued = {trial.user_attrs.get("continues") for trial in trials}
    return [trial for trial in trials if trial.number not in continued]


def origins(trials: Iterable[FrozenTrial]) -> dict[int, int]:
    """Return, by the number of each trial, the first trial of its configuration's chain of continuations."""
    roots: dict[int, int] = {}
    for trial in trials:  # by number, and a trial continues an earlier one
        continues = trial.user_attrs.get("continues")
        roots[trial.number] = trial.number if continues is None else roots[continues]
    return roots


def _was_at(trial: FrozenTrial, rung: int) -> bool:
    return rung in trial.intermediate_values and "duplicate_of" not in trial.user_attrs


def _stopped_at(trial: FrozenTrial, rung: int) -> bool:
    return trial.state == TrialState.PRUNED and trial.last_step == rung and _was_at(trial, rung)


def _sign(study: optuna.Study) -> float:
    return 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
