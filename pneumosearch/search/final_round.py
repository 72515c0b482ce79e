"""The last rung of a study: its best trials on fresh seeds and folds, by all its processes; their means rank them.

The repetitions are trials of the study NAME-confirm, out of sight of the search's sampler and pruner. They are the
first replicates that `confirm` would train, and it uses them.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.config import RunSpec
from pneumosearch.records.attributes import DIVERGED, REPLICATE, REPLICATE_OF, RUN, Origin
from pneumosearch.records.finalists import finalists
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search.events import EpochEnded, Listener, Repeating, StepsDone, TrialEnded, TrialEvent, TrialStarted
from pneumosearch.search.leases import GRACE, Leases
from pneumosearch.search.objective import Objective
from pneumosearch.search.proposers import NothingToPropose
from pneumosearch.search.repetitions import Repetitions, fresh_seeds_of
from pneumosearch.search.runner import MAX_FAILURES, Outcome, StudyRun
from pneumosearch.search.session import Session
from pneumosearch.storage.locks import study_lock
from pneumosearch.storage.urls import explained
from pneumosearch.studyfile import Finalists, StudySpec

#: Each trial has its run among its attributes.
_AS_GIVEN: Final = StudySpec(metric="accuracy", prune_by="accuracy", others={}, space={})

_ALL_THERE: Final = "every repetition is there"


def planned_repetitions(record: StudyRecord, wanted: Finalists) -> Repetitions | None:
    """Return what the last rung of a search trains; None where no trial is complete."""
    best = finalists(record, wanted.top)
    return Repetitions(record, tuple(best), fresh_seeds_of(record, wanted.repeats)) if best else None


def repeat_finalists(
    session: Session,
    wanted: Finalists,
    name: str,
    search: Outcome,
    *,
    max_failures: int = MAX_FAILURES,
    grace: float = GRACE,
    at_most: int | None = None,
) -> Outcome:
    """Repeat the best trials of a search that is over, unless they are; any number of processes may do so at once.

    Args:
        session: Store, images, listener, and the flag to stop.
        wanted: How many trials, and how often.
        name: Of the search.
        search: How it ended.
        max_failures: A repetition that failed as often is given up, and one whose loss was not finite at once.
        grace: Seconds without a heartbeat after which trials of other machines are reclaimed.
        at_most: Train so many, and leave the others to the next process.

    Raises:
        PneumosearchError: Data or storage cannot be used.
    """
    plan = planned_repetitions(session.store.record(name), wanted)
    if plan is None:
        return search
    told = replace(session, listener=_Teller(session.listener, plan))
    objective, pruner = Objective(told, _AS_GIVEN, keep_all=True), optuna.pruners.NopPruner()
    data = objective.described(next(iter(plan.runs)))
    with explained(session.store.url), study_lock(session.store.storage, plan.study):
        study = session.store.open_study(
            plan.study, "confirm", "accuracy", {"protocol": "holdout"}, data, pruner=pruner
        )
    proposer = _Round(study, plan, max_failures)
    run = StudyRun(told, study, objective, proposer, sys.maxsize, Leases(grace))
    outcome = run.until(sys.maxsize, at_most=at_most)
    return replace(search, stopped=search.stopped if outcome.done else session.stop.reason, done=outcome.done)


@dataclass(frozen=True)
class _Round:
    """Proposes the repetitions that are missing."""

    study: optuna.Study
    plan: Repetitions
    max_failures: int

    @property
    def exhausted(self) -> str:
        return "" if self._missing(self.study.get_trials(deepcopy=False)) else _ALL_THERE

    def resumes(self) -> bool:
        return False

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

    def _missing(self, trials: Sequence[FrozenTrial]) -> list[RunSpec]:
        """Return the runs that nobody has trained, trains or has given up; one that waits is still missing."""
        there = {RUN.of(trial) for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.RUNNING)}
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        there |= {RUN.of(trial) for trial in failed if DIVERGED.of(trial)}
        failures = [RUN.of(trial) for trial in failed]
        there |= {run for run in failures if failures.count(run) >= self.max_failures}
        return [run for run in self.plan.runs if run not in there]

    def lacks_finalist(self) -> bool:
        return False

    def propose_finalist(self) -> None:
        raise NothingToPropose

    def label(self, trial: optuna.Trial) -> None:
        """Add nothing: it is enqueued with what is said of it."""

    def resumable(self) -> set[int]:
        return set()

    def defers_baseline(self) -> bool:
        return False


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
