"""Running a search: the baseline first, then one trial after the other; it goes on after any interruption."""

import errno
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from pneumosearch.config import RunSpec
from pneumosearch.errors import ArtifactsError, PneumosearchError, StoreError, TrainingError, printable
from pneumosearch.network.backend import resolved_precision
from pneumosearch.records import attributes
from pneumosearch.records.classes import own_classes
from pneumosearch.records.trial import Purpose, TrialRecord
from pneumosearch.search.claims import Claims, fail
from pneumosearch.search.earlier import earlier_studies
from pneumosearch.search.events import TrialDeferred, TrialEnded
from pneumosearch.search.keras_tuner.engine import OracleProposer
from pneumosearch.search.leases import GRACE, Leases, LostLease, check_lease, heartbeats
from pneumosearch.search.objective import Objective
from pneumosearch.search.proposers import NothingToPropose, OneRun, Proposer, SamplerProposer
from pneumosearch.search.pruners import make_pruner
from pneumosearch.search.samplers import study_sampler
from pneumosearch.search.session import Deferred, Interrupted, Session
from pneumosearch.storage.locks import study_lock
from pneumosearch.storage.optuna_private import trial_id
from pneumosearch.storage.store import Store, trial_record
from pneumosearch.storage.urls import STORAGE_ERRORS, explained
from pneumosearch.studyfile import StudySpec

#: A study stops when this many trials in a row fail for the same reason.
MAX_FAILURES: Final = 3

#: And when this many proposals in a row are over budget.
MAX_PASSED_OVER: Final = 100

_LOOK_FOR_WORK: Final = 0.5  # seconds between two looks for work, while other processes train

_log = logging.getLogger(__name__)

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Outcome:
    """How a run of a study ended."""

    finished: int  # configurations of the study that have ended
    stopped: str  # why it stopped before all was done; empty where nothing stopped it
    done: bool  # whether nothing is left to train


@dataclass(frozen=True)
class StudyRun:
    """One run of the study command, or of anything else that trains in trials.

    Args:
        session: Store, images, listener, and the flag to stop.
        study: With its sampler and its pruner.
        objective: Trains a trial.
        proposer: Proposes new trials.
        max_failures: Stop when this many trials in a row fail for the same reason.
        leases: Tell which running trials nobody trains.
    """

    session: Session
    study: optuna.Study
    objective: Objective
    proposer: Proposer
    max_failures: int = MAX_FAILURES
    leases: Leases = field(default_factory=Leases)

    def until(self, n_trials: int, *, at_most: int | None = None) -> Outcome:
        """Go on until the study has `n_trials` ended trials in all, or something stops it, or `at_most` were trained.

        Any number of processes may do so at once. A process that finds nothing to train waits for the others: their
        results may promote trials, and their leases may expire.

        Raises:
            PneumosearchError: Data or storage cannot be used, or too many trials fail for one reason.
        """
        claims, stop = self._claims(n_trials), self.session.stop
        with explained(self.session.store.url):
            for trained in itertools.count():
                if trained == at_most or stop():
                    break
                try:
                    trial = self._next_or_none(claims)
                    if trial is None:
                        break
                    self.run_trial(trial, partial(claims.defers, trial))
                except (Deferred, LostLease):
                    continue
                except (Interrupted, NothingToPropose):
                    break
            return self._outcome(claims)

    def _outcome(self, claims: Claims) -> Outcome:
        done, ended = claims.done(), claims.n_ended()
        if not done:
            return Outcome(ended, self.session.stop.reason, done)
        return Outcome(ended, self.proposer.exhausted if ended < claims.goal else "", done)

    def next_trial(self) -> optuna.Trial:
        """Return the trial to train, claimed by this process: one to reclaim, else one to resume, else a new one."""
        with self._lock():
            return self._claims().next()

    def _next_or_none(self, claims: Claims) -> optuna.Trial | None:
        """Return the next trial, waiting for one while others are at work; None where nothing is left, or to stop."""
        while not self.session.stop():
            with self._lock():
                if claims.done():
                    return None
                if claims.any_left():
                    return claims.next()
            time.sleep(_LOOK_FOR_WORK)
        return None

    def _claims(self, goal: int = 0) -> Claims:
        return Claims(self.study, self.proposer, self.leases, goal)

    def _lock(self) -> AbstractContextManager[None]:
        return study_lock(self.session.store.storage, self.study.study_name)

    def run_trial(self, trial: optuna.Trial, defers: Callable[[], bool] = lambda: False) -> TrialRecord:
        """Train one trial and tell the study how it ended.

        Args:
            trial: As `next_trial` returns it.
            defers: Asked after each epoch but the last whether the trial stops there, to go on later.

        Raises:
            Interrupted: The session should stop, or the trial is deferred; it may go on in another process at once.
            LostLease: Another process trains it.
        """
        store = self.session.store
        with heartbeats(store.storage, trial_id(trial), self.leases.grace):
            try:
                self._train(trial, defers)
            except UpdateFinishedTrialError as error:
                raise LostLease from error
        self._clean_up()
        record = trial_record(self.study.get_trials(deepcopy=False)[trial.number])
        self.session.listener(TrialEnded(record))
        check_failures(self.study, self.max_failures)
        self._check_passed_over()
        return record

    def _train(self, trial: optuna.Trial, defers: Callable[[], bool]) -> None:
        try:
            self.study.tell(trial, self.objective(trial, defers))
        except Interrupted as why:
            check_lease(trial)
            attributes.OWNER.clear(trial)
            if isinstance(why, Deferred):
                self.session.listener(TrialDeferred(trial.number))
            raise
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        except UpdateFinishedTrialError:
            raise
        except Exception as error:  # noqa: BLE001  one trial's failure, whatever it is, must not end the study
            reason = self._reason(error)
            check_lease(trial)  # the end of a trial is for the process that has it
            if isinstance(error, TrainingError):
                attributes.DIVERGED.set(trial, True)
            fail(self.study, trial, reason)

    def _clean_up(self) -> None:
        """Remove the checkpoints of trials that will not be resumed, and of those least likely to be."""
        try:
            there = self.session.store.states(
                self.study.study_name
            )  # first, as other processes may begin trials meanwhile
            trials = self.study.get_trials(deepcopy=False)
            kept = self._resumable()
            for number in there:
                if number < len(trials) and trials[number].state.is_finished() and number not in kept:
                    self.objective.clean_up(self.study, number)
        except ArtifactsError as error:  # the trial has ended well; the next one removes what is left
            _log.warning("%s", error)

    def _resumable(self) -> set[int]:
        """Return the numbers of the ended trials that may be resumed, or are about to be."""
        unfinished = (trial for trial in self.study.get_trials(deepcopy=False) if not trial.state.is_finished())
        # The process that resumes one may not have taken over its state yet.
        resumed = {number for number in map(attributes.CONTINUES.of, unfinished) if number is not None}
        return self.proposer.resumable() | resumed

    def _check_passed_over(self) -> None:
        last = self.study.get_trials(deepcopy=False)[-MAX_PASSED_OVER:]
        if len(last) == MAX_PASSED_OVER and all(map(attributes.PASSED_OVER.on, last)):
            why = attributes.PASSED_OVER.of(last[-1])
            raise PneumosearchError(
                f"{MAX_PASSED_OVER} configurations in a row cost more than the study allows ({why})"
            )

    def _reason(self, error: Exception) -> str:
        """Say in one line why a trial failed. Raise where that is not its fault: then it can go on later."""
        if isinstance(error, TrainingError):
            return str(error)
        if isinstance(error, (LostLease, PneumosearchError, *STORAGE_ERRORS)):
            raise error
        if isinstance(error, OSError) and error.errno in _NO_ROOM:  # the next trial would fail alike
            why = f"{self.session.store.results}: {os.strerror(error.errno)}"
            raise StoreError(f"{why}; what was saved is safe, the same command goes on from it") from error
        return printable(f"{type(error).__name__}: {error}".splitlines()[0])  # it may hold a name of a file


def check_failures(study: optuna.Study, max_failures: int) -> None:
    """Raise `PneumosearchError` where the last trials to end, `max_failures` of them, failed for the same reason."""
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.datetime_complete]
    last = sorted(ended, key=lambda trial: trial.datetime_complete or datetime.min)[-max_failures:]
    reasons = {attributes.FAILURE.of(trial) for trial in last}
    if len(last) == max_failures and len(reasons) == 1 and None not in reasons:
        raise PneumosearchError(f"stopped: {max_failures} trials in a row failed with: {reasons.pop()}")


def open_search(
    session: Session, spec: StudySpec, *, max_failures: int = MAX_FAILURES, grace: float = GRACE
) -> StudyRun:
    """Create the study of `spec` with the baseline as its first trial, or open it to go on.

    Args:
        session: Store, images, listener, and the flag to stop.
        spec: The study.
        max_failures: Stop when this many trials in a row fail for the same reason.
        grace: Seconds without a heartbeat after which trials of other machines are reclaimed.

    Raises:
        ConfigError: The sampler cannot be made, there is nothing for KerasTuner to search, or nothing to learn from a
            file.
        StoreError: A study of this name searches something else, or other data; or one to learn from is not there.
    """
    spec = settled(session.store, spec).model_copy(update={"classes": own_classes(session.source.manifest.classes)})
    objective = Objective(session, spec)
    space = objective.space
    data = objective.described(objective.new_run(space.centre))
    earlier = earlier_studies(session.store, spec)
    sampler, pruner = study_sampler(spec, space, earlier), make_pruner(spec)
    with explained(session.store.url), study_lock(session.store.storage, spec.name):
        study = session.store.open_study(
            spec.name, "search", spec.metric, spec.identity(), data, sampler=sampler, pruner=pruner
        )
        written = attributes.EARLIER.of(study)
        if written is None and earlier:
            attributes.EARLIER.set(study, earlier)
        elif written is not None and written != earlier:  # another process has begun the study meanwhile
            study.sampler = study_sampler(spec, space, written)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(space.baseline())
    return StudyRun(session, study, objective, _proposer(study, spec), max_failures, Leases(grace))


def _proposer(study: optuna.Study, spec: StudySpec) -> Proposer:
    if spec.engine == "keras-tuner":
        return OracleProposer(study, spec)
    return SamplerProposer(study, spec.search_space().baseline() if spec.control else None)


def settled(store: Store, spec: StudySpec) -> StudySpec:
    """Replace the precision "auto" by the one that the study began with; a new study takes this machine's."""
    if spec.precision != "auto":
        return spec
    begun = store.begun(spec.name) or {}
    return spec.model_copy(update={"precision": begun.get("precision", resolved_precision("auto"))})


def train_once(
    session: Session, name: str, purpose: Purpose, run: RunSpec, about: dict[str, Any] | None = None
) -> TrialRecord | None:
    """Train one given run as a trial of the study `name`; go on with an interrupted trial of that run.

    Args:
        session: Store, images, listener, and when to stop.
        name: Of the study.
        purpose: Of the study.
        run: What is trained.
        about: Further attributes of the trial, as `Attribute.entry` gives them.

    Returns:
        The ended trial, or None where the session stopped first.

    Raises:
        TrainingError: The training failed; the message and the store have the reason.
    """
    spec = StudySpec(metric="accuracy", prune_by="accuracy", fixed=run.config.changes(), others={}, space={})
    # Keeps every network: `predict` and `export` find it.
    objective = Objective(session, spec, keep_all=True)
    data = objective.described(run)
    pruner = optuna.pruners.NopPruner()
    study = session.store.open_study(name, purpose, "accuracy", {"protocol": run.protocol}, data, pruner=pruner)
    study_run = StudyRun(session, study, objective, OneRun(run), max_failures=sys.maxsize)  # not a search
    trial = study_run.next_trial()
    attributes.RUN.set(trial, run)
    for key, value in (about or {}).items():
        trial.set_user_attr(key, value)
    try:
        with explained(session.store.url):
            record = study_run.run_trial(trial)
    except Interrupted:
        return None
    except LostLease as error:
        raise StoreError(f"trial {trial.number} of '{name}': another process has reclaimed it") from error
    if record.failure:
        raise TrainingError(record.failure)
    return record
