"""Training what a plan of repetitions lacks, by any number of processes at once: a last rung, or a confirmation.

The repetitions are trials of the study NAME-confirm, out of sight of the search's sampler and pruner.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.config import RunSpec
from pneumosearch.records.attributes import DIVERGED, REPLICATE, REPLICATE_OF, RUN, Origin
from pneumosearch.search.events import EpochEnded, Listener, Repeating, StepsDone, TrialEnded, TrialEvent, TrialStarted
from pneumosearch.search.leases import GRACE, Leases
from pneumosearch.search.objective import Objective
from pneumosearch.search.proposers import NothingToPropose, Proposer
from pneumosearch.search.repetitions import Repetitions
from pneumosearch.search.runner import MAX_FAILURES, Outcome, StudyRun
from pneumosearch.search.session import Session
from pneumosearch.storage.locks import study_lock
from pneumosearch.storage.urls import explained
from pneumosearch.studyfile import StudySpec

#: Each trial has its run among its attributes.
_AS_GIVEN: Final = StudySpec(metric="accuracy", prune_by="accuracy", others={}, space={})

_ALL_THERE: Final = "every repetition is there"


def repeat(
    session: Session,
    plan: Repetitions,
    *,
    max_failures: int = MAX_FAILURES,
    grace: float = GRACE,
    at_most: int | None = None,
) -> Outcome:
    """Train what is missing of a plan, unless other processes do; resume what others left behind.

    Args:
        session: Store, images, listener, and the flag to stop. The listener gets each event as a `Repeating`.
        plan: What is wanted.
        max_failures: A repetition that failed as often is given up, and one whose loss was not finite at once.
        grace: Seconds without a heartbeat after which trials of other machines are reclaimed.
        at_most: Train so many, and leave the others to the next process.

    Returns:
        How it ended; it counts the plan's repetitions that are there or given up.

    Raises:
        PneumosearchError: Data or storage cannot be used.
    """
    told = replace(session, listener=_Teller(session.listener, plan))
    objective, study = _opened(told, plan)
    proposer = _Missing(study, plan, max_failures)
    run = StudyRun(told, study, objective, proposer, sys.maxsize, Leases(grace))
    done = run.until(sys.maxsize, at_most=at_most).done
    return Outcome(proposer.n_ended(), "" if done else session.stop.reason, done)


def open_repetitions(session: Session, plan: Repetitions) -> optuna.Study:
    """Create the study of a plan's repetitions, or open it.

    Raises:
        StoreError: It has repetitions on other images.
        DataError: Images cannot be read.
    """
    return _opened(session, plan)[1]


def _opened(session: Session, plan: Repetitions) -> tuple[Objective, optuna.Study]:
    objective, pruner = Objective(session, _AS_GIVEN, keep_all=True), optuna.pruners.NopPruner()
    data, store = objective.described(next(iter(plan.runs))), session.store
    with explained(store.url), study_lock(store.storage, plan.study):
        study = store.open_study(plan.study, "confirm", "accuracy", {"protocol": "holdout"}, data, pruner=pruner)
    return objective, study


@dataclass(frozen=True)
class _Missing(Proposer):
    """Proposes the repetitions that are missing."""

    study: optuna.Study
    plan: Repetitions
    max_failures: int

    @property
    def exhausted(self) -> str:
        return "" if self._missing(self.study.get_trials(deepcopy=False)) else _ALL_THERE

    def concerns(self, trial: FrozenTrial) -> bool:
        """Tell whether the plan wants a trial; others are of another plan, or were never given their run."""
        return RUN.of(trial) in self.plan.runs

    def propose(self) -> None:
        """Enqueue the next repetition, unless one waits already: the process that enqueued it may have been killed."""
        trials = self.study.get_trials(deepcopy=False)
        if any(trial.state == TrialState.WAITING for trial in trials):
            return
        missing = self._missing(trials)
        if not missing:
            raise NothingToPropose
        trial, position = self.plan.runs[missing[0]]
        origin = REPLICATE_OF.entry(Origin(study=self.plan.record.name, trial=trial.number))
        about = RUN.entry(missing[0]) | origin | REPLICATE.entry(position)
        self.study.enqueue_trial({}, user_attrs=about)

    def n_ended(self) -> int:
        """Count the plan's repetitions that are there or given up."""
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state != TrialState.RUNNING]
        return len(self.plan.runs) - len(self._missing(ended))

    def _missing(self, trials: Sequence[FrozenTrial]) -> list[RunSpec]:
        """Return the runs that nobody has trained, trains or has given up; one that waits is still missing."""
        kept = [trial for trial in trials if trial.number not in self.plan.without_network]
        there = {RUN.of(trial) for trial in kept if trial.state in (TrialState.COMPLETE, TrialState.RUNNING)}
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        there |= {RUN.of(trial) for trial in failed if DIVERGED.of(trial)}
        failures = [RUN.of(trial) for trial in failed if trial.number >= self.plan.n_before]
        there |= {run for run in failures if failures.count(run) >= self.max_failures}
        return [run for run in self.plan.runs if run not in there]


@dataclass(frozen=True)
class _Teller:
    """Passes the events of repetitions on, with the trial of the search that each repeats."""

    listener: Listener
    plan: Repetitions
    _repeated: dict[int, int] = field(default_factory=dict)  # by number of the repetition

    def __call__(self, event: TrialEvent) -> None:
        match event:
            case TrialStarted(number, run) if run in self.plan.runs:
                self._repeated[number] = self.plan.runs[run][0].number
            case TrialStarted() | StepsDone() | EpochEnded() | TrialEnded():
                pass
            case _:
                self.listener(event)
                return
        number = event.record.number if isinstance(event, TrialEnded) else event.number
        self.listener(Repeating(self.plan.study, self._repeated.get(number), event))
