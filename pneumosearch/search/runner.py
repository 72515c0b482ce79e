"""Running a search: sampler and pruner, the baseline begun first, going on after any interruption."""

import errno
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType
from typing import Any, Final

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.config import RunSpec
from pneumosearch.errors import ArtifactsError, PneumosearchError, StoreError, TrainingError
from pneumosearch.network.backend import resolved_precision
from pneumosearch.records.trial import TrialRecord
from pneumosearch.search.cost import Limits
from pneumosearch.search.events import TrialDeferred, TrialEnded
from pneumosearch.search.leases import MAX_TAKEN_UP, LostTrial, Watch, beating, own
from pneumosearch.search.objective import Deferred, Interrupted, Objective, Session, StopFlag
from pneumosearch.search.pruners import PromotingPruner, Promotion, latest, make_pruner
from pneumosearch.search.samplers import make_sampler
from pneumosearch.space import Space
from pneumosearch.storage.locks import study_lock
from pneumosearch.storage.store import Purpose, Store, trial_record
from pneumosearch.storage.urls import STORAGE_ERRORS, explained
from pneumosearch.studyfile import StudySpec

#: A study stops when this many trials in a row fail for the same reason.
MAX_FAILURES: Final = 3

#: And when this many proposals in a row cost more than its limits allow.
MAX_PASSED_OVER: Final = 100

_LOOK_FOR_WORK: Final = 0.5  # seconds between two looks of a process that has nothing to train while others have

_log = logging.getLogger(__name__)

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Outcome:
    """How a run of a study ended."""

    finished: int  # ended configurations of the study
    stopped: str  # why it stopped before all was done; empty where nothing stopped it
    done: bool  # whether nothing is left to train


@dataclass
class StudyRun:
    """One run of the study command, or of anything else that trains in trials.

    Args:
        sampler: From a trial's number to the sampler that proposes it; none where every value is given.
        max_failures: Stop when this many trials in a row fail for the same reason.
    """

    study: optuna.Study
    objective: Objective
    sampler: Callable[[int], optuna.samplers.BaseSampler] | None = None
    max_failures: int = MAX_FAILURES
    watch: Watch = field(default_factory=Watch)
    goal: int = field(default=0, init=False)  # ended trials of the study in all, as `until` was told

    def until(self, n_trials: int, *, at_most: int | None = None) -> Outcome:
        """Go on until the study has `n_trials` ended trials in all, or something stops it, or `at_most` were trained.

        Any number of processes may do so at once. One that finds nothing to train waits for the others, whose trials
        may let others go on, or be left behind.

        Raises:
            PneumosearchError: Data or storage cannot be used, or too many trials fail for one reason.
        """
        self.goal, stop = n_trials, self.objective.session.stop
        with explained(self.objective.session.store.url):
            for trained in itertools.count():
                if trained == at_most or stop():
                    break
                try:
                    trial = self._claim()
                    if trial is None:
                        break
                    self.run_trial(trial)
                except (Deferred, LostTrial):
                    continue
                except Interrupted:
                    break
            done = not self._something_to_do() and not self._at_work()
            return Outcome(self._ended(), "" if done else stop.reason, done)

    def next_trial(self, wanted: RunSpec | None = None) -> optuna.Trial:
        """Return the trial to train: one left behind, else one that may go on, else a new one.

        Args:
            wanted: Take up only a trial of this run, where given.
        """
        with self._lock():
            return self._next_trial(wanted)

    def _claim(self) -> optuna.Trial | None:
        """Return the next trial, waiting for one while others are at work; None where nothing is left, or to stop."""
        while not self.objective.session.stop():
            with self._lock():
                if self._something_to_do():
                    return self._next_trial(None)
                if not self._at_work():
                    return None
            time.sleep(_LOOK_FOR_WORK)
        return None

    def _lock(self) -> AbstractContextManager[None]:
        return study_lock(self.objective.session.store.storage, self.study.study_name)

    def _next_trial(self, wanted: RunSpec | None) -> optuna.Trial:
        frozen = next(self._behind(wanted), None)
        if frozen is None:
            promotions = self._promotions()
            if promotions and not self._waiting():
                self.study.enqueue_trial(promotions[0].params, user_attrs=promotions[0].attributes())
            self._use_sampler(len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask()  # takes what is enqueued first
        else:
            self._use_sampler(frozen.number)
            trial = optuna.Trial(self.study, frozen._trial_id)
        epochs = len(trial.user_attrs.get("history", []))
        if own(trial, epochs) <= MAX_TAKEN_UP:
            return trial
        self._fail(trial, f"taken up {MAX_TAKEN_UP} times after epoch {epochs}, and each time its process was lost")
        return self._next_trial(wanted)

    def _something_to_do(self) -> bool:
        """Tell whether configurations, trials that may go on, or trials left behind are still to be trained."""
        return any(self._behind(None)) or bool(self._promotions()) or self._waiting() or self._room()

    def _room(self) -> bool:
        """Tell whether new configurations are still to be begun."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return self._ended() + sum("continues" not in trial.user_attrs for trial in running) < self.goal

    def _at_work(self) -> list[FrozenTrial]:
        """Return the trials that other processes train now."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if not self.watch.left_behind(trial)]

    def _waiting(self) -> bool:
        """Tell whether a continuation is enqueued: the study may have been killed right then."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return any("continues" in trial.user_attrs for trial in waiting)

    def defers(self, trial: optuna.Trial | FrozenTrial) -> bool:
        """Tell whether `trial` is the baseline, lets others go first, and there are others to be begun."""
        pruner = self.study.pruner
        if trial.number != 0 or not isinstance(pruner, PromotingPruner):
            return False
        return pruner.defers_baseline(self.study) and self._room()

    def _promotions(self) -> list[Promotion]:
        pruner = self.study.pruner
        return pruner.promotions(self.study) if isinstance(pruner, PromotingPruner) else []

    def run_trial(self, trial: optuna.Trial) -> TrialRecord:
        """Train one trial and tell the study how it ended.

        Raises:
            Interrupted: The session should stop, or the trial is deferred; it may go on in another process at once.
            LostTrial: Another process trains it.
        """
        store = self.objective.session.store
        with beating(store.storage, trial._trial_id, self.watch.grace) if store.shared else nullcontext():
            try:
                self._train(trial)
            except UpdateFinishedTrialError as error:
                raise LostTrial from error
        self._clean_up()
        record = trial_record(self.study.get_trials(deepcopy=False)[trial.number])
        self.objective.session.listener(TrialEnded(record))
        check_failures(self.study, self.max_failures)
        self._check_passed_over()
        return record

    def _train(self, trial: optuna.Trial) -> None:
        try:
            self.study.tell(trial, self.objective(trial))
        except Interrupted as why:
            trial.set_user_attr("owner", None)
            if isinstance(why, Deferred):
                self.objective.session.listener(TrialDeferred(trial.number))
            raise
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        except UpdateFinishedTrialError:
            raise
        except Exception as error:  # noqa: BLE001  one trial's failure, whatever it is, must not end the study
            self._fail(trial, self._reason(error))

    def _clean_up(self) -> None:
        """Remove the state of trials that will not go on, and of those least likely to, beyond the disk budget."""
        session = self.objective.session
        try:
            there = session.store.states(self.study.study_name)  # before its trials are looked at, as others may begin
            trials = self.study.get_trials(deepcopy=False)
            kept = self._kept_states()
            for number in there:
                if number < len(trials) and trials[number].state.is_finished() and number not in kept:
                    self.objective.clean_up(self.study, number)
        except ArtifactsError as error:  # the trial has ended well; what is left is removed at the end of the next
            _log.warning("%s", error)

    def _kept_states(self) -> set[int]:
        """Return the numbers of the ended trials that may go on."""
        pruner = self.study.pruner
        if not isinstance(pruner, PromotingPruner):
            return set()
        unfinished = (trial for trial in self.study.get_trials(deepcopy=False) if not trial.state.is_finished())
        # The process that goes on may not have taken over their state yet.
        going_on = {trial.user_attrs["continues"] for trial in unfinished if "continues" in trial.user_attrs}
        return pruner.kept(self.study) | going_on

    def _check_passed_over(self) -> None:
        last = self.study.get_trials(deepcopy=False)[-MAX_PASSED_OVER:]
        if len(last) == MAX_PASSED_OVER and all("passed_over" in trial.user_attrs for trial in last):
            why = last[-1].user_attrs["passed_over"]
            raise PneumosearchError(
                f"{MAX_PASSED_OVER} configurations in a row cost more than the study allows ({why})"
            )

    def _reason(self, error: Exception) -> str:
        """Say in one line why a trial failed; raise where it is not the trial's fault: it stays, to go on later."""
        if isinstance(error, TrainingError):
            return str(error)
        if isinstance(error, (LostTrial, PneumosearchError, *STORAGE_ERRORS)):
            raise error
        if isinstance(error, OSError) and error.errno in _NO_ROOM:  # the next trial would meet it too
            why = f"{self.objective.session.store.results}: {os.strerror(error.errno)}"
            raise StoreError(f"{why}; what was saved is safe, the same command goes on from it") from error
        return f"{type(error).__name__}: {error}".splitlines()[0]

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr("failure", reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def _use_sampler(self, number: int) -> None:
        if self.sampler is not None:
            self.study.sampler = self.sampler(number)

    def _ended(self) -> int:
        """Count the configurations whose training has ended or stopped; those that cost too much do not count."""
        trials = latest(self.study.get_trials(deepcopy=False))
        started = [trial for trial in trials if trial.state.is_finished() or "continues" in trial.user_attrs]
        return sum("passed_over" not in trial.user_attrs for trial in started)

    def _behind(self, wanted: RunSpec | None) -> Iterator[FrozenTrial]:
        """Give the running trials that nobody trains, without a baseline that is deferred."""
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            run = frozen.user_attrs.get("run")
            fits = wanted is None or (run is not None and RunSpec.model_validate(run) == wanted)
            if fits and self.watch.left_behind(frozen) and not self.defers(frozen):
                yield frozen


def check_failures(study: optuna.Study, max_failures: int) -> None:
    """Raise `PneumosearchError` where the last trials to end, `max_failures` of them, failed for the same reason."""
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.datetime_complete]
    last = sorted(ended, key=lambda trial: trial.datetime_complete or datetime.min)[-max_failures:]
    reasons = {trial.user_attrs.get("failure") for trial in last}
    if len(last) == max_failures and len(reasons) == 1 and None not in reasons:
        raise PneumosearchError(f"stopped: {max_failures} trials in a row failed with: {reasons.pop()}")


def open_search(session: Session, spec: StudySpec) -> StudyRun:
    """Create the study of `spec` with the baseline as its first trial, or open it to go on.

    Raises:
        StoreError: A study of this name searches something else, or other data.
    """
    spec = settled(session.store, spec)
    objective = search_objective(session, spec)
    space = objective.space
    data = objective.dataset(space.centre).description
    with explained(session.store.url), study_lock(session.store.storage, spec.name):
        study = session.store.open_study(spec.name, "search", spec.metric, spec.identity(), data)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(space.baseline())
    study.pruner = make_pruner(spec)
    study_sampler(spec, space, 0)  # so that one that cannot be made is told now
    run = StudyRun(study, objective, lambda number: study_sampler(spec, space, number))
    objective.defers = run.defers  # an objective in a loop of other people defers nothing
    return run


def settled(store: Store, spec: StudySpec) -> StudySpec:
    """Return `spec` with the precision that "auto" means: the one that the study began with, or this machine's."""
    if spec.precision != "auto":
        return spec
    with explained(store.url):
        begun = store.load_study(spec.name).user_attrs["spec"] if spec.name in store.names() else {}
    return spec.model_copy(update={"precision": begun.get("precision", resolved_precision("auto"))})


def search_objective(session: Session, spec: StudySpec) -> Objective:
    """Return what the trials of `spec` train; trial n with the study's seed + n."""

    def seed_of(number: int) -> int:
        return spec.seed + number  # so the first trial equals the baseline command's

    return Objective(
        session,
        spec.search_space(),
        spec.metric,
        spec.prune_by,
        spec.protocol,
        resolved_precision(spec.precision),
        seed_of,
        spec.repeat_duplicates,
        Limits(spec.max_parameters, spec.max_seconds_an_epoch),
        spec.screening,
        stress=spec.stress,
        precise=spec.precise,
    )


def study_sampler(spec: StudySpec, space: Space, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler that proposes trial `number` of the study. Raises `ConfigError` where it cannot be made."""
    return make_sampler(spec.sampler, space, study_seed=spec.seed, trial_seed=derived_seed(spec.seed, number))


def train_once(
    session: Session, name: str, purpose: Purpose, run: RunSpec, attributes: dict[str, Any] | None = None
) -> TrialRecord | None:
    """Train one given run as a trial of the study `name`, going on with it where it was left behind.

    Returns:
        The ended trial, or None where the session stopped before its end.

    Raises:
        TrainingError: The training failed; its reason is in the message and in the store.
    """
    space = Space({}, run.config.changes())
    objective = Objective(session, space, "accuracy", "accuracy", run.protocol, run.precision, lambda number: run.seed)
    objective.stress, objective.precise = run.stress, run.precise
    objective.keep_all = True  # of what was asked for by name: a replicate is still to see the test images
    data = objective.dataset(run.config).description
    study = session.store.open_study(name, purpose, "accuracy", {"protocol": run.protocol}, data)
    study.pruner = optuna.pruners.NopPruner()
    study_run = StudyRun(study, objective)
    trial = study_run.next_trial(run)
    trial.set_user_attr("run", run.model_dump(mode="json"))
    for key, value in (attributes or {}).items():
        trial.set_user_attr(key, value)
    try:
        with explained(session.store.url):
            record = study_run.run_trial(trial)
    except Interrupted:
        return None
    except LostTrial as error:
        raise StoreError(f"trial {trial.number} of '{name}': another process has taken it up") from error
    if record.failure:
        raise TrainingError(record.failure)
    return record


@contextmanager
def stopping_on_ctrl_c(stop: StopFlag, say: Callable[[str], None]) -> Iterator[None]:
    """Make the first Ctrl-C (or SIGTERM) end the present epoch, and the second end at once."""

    def handle(signum: int, frame: FrameType | None) -> None:
        if stop.reason:
            raise KeyboardInterrupt
        stop.reason = "interrupted"
        say("stopping after this epoch; press Ctrl-C again to stop at once")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def derived_seed(seed: int, number: int) -> int:
    """Return a seed for trial `number` that does not depend on which process asks: a resumed study repeats."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
