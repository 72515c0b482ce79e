"""Supervises training processes of this machine: passes their events on and replaces those that end or die.

It is ours because a process that dies breaks a whole `ProcessPoolExecutor`, and `multiprocessing.Pool` waits for its
task for ever; neither could tell a trial that kills each process that trains it.
"""

import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Final, NamedTuple

from pneumosearch._utils.processes import Helper, Task
from pneumosearch.errors import PneumosearchError
from pneumosearch.search.events import (
    DeviceFound,
    EpochEnded,
    FoldStarted,
    Repeating,
    StepsDone,
    TrialEnded,
    TrialEvent,
    TrialStarted,
)
from pneumosearch.search.runner import Outcome, check_failures
from pneumosearch.search.session import Session


@dataclass(frozen=True)
class Failed:
    """A training process cannot go on; the error is for the user. Nothing follows."""

    error: PneumosearchError


#: What a training process sends: what happens in its trials, and at last how its part of the search ended.
ProcessEvent = TrialEvent | Outcome | Failed

_LOOK_AT_STOP: Final = 0.2  # seconds between two looks at whether to stop
_MAX_DEATHS: Final = 2  # a trial whose process dies as often without a new epoch has failed


class Progress(NamedTuple):
    """How far a trial is."""

    fold: int = 0  # the present one, from 0
    epochs: int = 0  # of that

    def __str__(self) -> str:
        return f"epoch {self.epochs}" + (f" of fold {self.fold + 1}" if self.fold else "")


class TrainingProcess:
    """A process that trains trials one after the other.

    Args:
        helper: The process.
        task: What it does; it sends events, and takes one order to stop.
    """

    def __init__(self, helper: Helper, task: Task) -> None:
        self.training: tuple[int, Progress] | None = None  # the trial that it trains, and how far that is
        self.study: str | None = None  # of that trial, where it is not the search
        self.begun = 0  # trials
        self._helper, self.events = helper, helper.events
        self._helper.send(task)
        self._ordered = False

    def note(self, event: TrialEvent) -> None:
        """Remember which trial it trains, and how far that is."""
        self.study = event.study if isinstance(event, Repeating) else None
        match event.event if isinstance(event, Repeating) else event:
            case TrialStarted(number):
                self.training = (number, Progress())
                self.begun += 1
            case FoldStarted(number, run):
                self.training = (number, Progress(run.position))
            case EpochEnded(number, history, fold):
                self.training = (number, Progress(fold, len(history)))
            case StepsDone():
                pass
            case _:
                self.training = None

    def next_event(self) -> ProcessEvent | None:
        """Wait for its next event; None where it died."""
        try:
            event: ProcessEvent = self.events.recv()
        except (EOFError, OSError):
            return None
        return event

    def order(self, reason: str) -> None:
        """Order it to stop after its present epoch."""
        if not self._ordered:
            self._ordered = True
            self._helper.send(reason)

    def end(self) -> None:
        """End the process, if need be by force: nothing that it saved is lost either way."""
        self._helper.end()

    @property
    def ended_by(self) -> str:
        """How it died, in words."""
        code = self._helper.exit_code
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"


def supervise(
    session: Session,
    study: str,
    start: Callable[[int], TrainingProcess],
    workers: int,
    *,
    max_failures: int,
    foresee: Callable[[int, int], None] = lambda number, begun: None,
) -> Outcome:
    """Keep `workers` processes training a study until nothing is left to train, or something stops it.

    Args:
        session: Store, listener, and the flag to stop.
        study: Name of the study.
        start: Starts the process of this number, or starts it again.
        workers: Processes at a time.
        max_failures: Stop when this many trials in a row fail for the same reason.
        foresee: Called now and then with the number of a process, and of the trials that it has begun.

    Raises:
        PneumosearchError: A process sent it, or processes cannot be kept alive.
    """
    deaths = _Deaths(session, study, max_failures, workers)
    outcomes: list[Outcome] = []
    processes: dict[int, TrainingProcess] = {}
    with ExitStack() as stack:
        stack.callback(lambda: _end(processes.values()))
        for number in range(workers):
            processes[number] = start(number)
        while processes:
            for number, outcome in _handle_events(processes, session, deaths):
                processes.pop(number).end()
                if outcome is not None and (outcome.stopped or outcome.done):
                    outcomes.append(outcome)
                else:
                    processes[number] = start(number)
            if not session.stop.reason:
                for number, process in processes.items():
                    foresee(number, process.begun)
    return max(outcomes, key=lambda outcome: (outcome.done, outcome.finished))


def _handle_events(
    processes: Mapping[int, TrainingProcess], session: Session, deaths: "_Deaths"
) -> list[tuple[int, Outcome | None]]:
    """Pass events on; return the processes that have ended, each with its outcome, or None where it died."""
    ended: list[tuple[int, Outcome | None]] = []
    if session.stop():
        for process in processes.values():
            process.order(session.stop.reason)
    ready = set(wait([process.events for process in processes.values()], _LOOK_AT_STOP))
    for number, process in processes.items():
        if process.events not in ready:
            continue
        match event := process.next_event():
            case None:
                process.end()
                deaths.add(process)
                ended.append((number, None))
            case Outcome():
                ended.append((number, event))
            case Failed(error):
                raise error
            case DeviceFound():
                session.listener(event)
            case _:
                process.note(event)
                deaths.forget()
                session.listener(event)
    return ended


def _end(processes: Iterable[TrainingProcess]) -> None:
    for process in processes:
        process.end()


@dataclass
class _Deaths:
    """Counts the processes that died, by the trial that each trained."""

    session: Session
    study: str
    max_failures: int
    workers: int
    _at_trials: dict[tuple[str, int], tuple[Progress, int]] = field(default_factory=dict)  # by trial, deaths since
    _before_any: int = 0  # deaths of processes that had no trial, since the last event

    def forget(self) -> None:
        """Forget deaths at the start, as a process lives and trains."""
        self._before_any = 0

    def add(self, process: TrainingProcess) -> None:
        """Count a death. A trial fails when two processes died at it without a new epoch; the study goes on.

        Raises:
            PneumosearchError: Processes die before they have a trial, or too many trials failed like this.
        """
        if process.training is None:
            self._before_any += 1
            if self._before_any >= _MAX_DEATHS * self.workers:
                raise PneumosearchError(f"the training process does not start: {process.ended_by}")
            return
        number, progress = process.training
        trial = (process.study or self.study, number)
        before, deaths = self._at_trials.get(trial, (progress, 0))
        self._at_trials[trial] = (progress, deaths + 1 if before == progress else 1)
        if self._at_trials[trial][1] >= _MAX_DEATHS:
            self._fail(*trial, progress, process.ended_by)

    def _fail(self, study: str, number: int, progress: Progress, ended_by: str) -> None:
        reason = f"its process died twice after {progress}: {ended_by}"
        reason += ", perhaps out of memory" if "SIGKILL" in ended_by else ""
        ended = TrialEnded(self.session.store.fail_trial(study, number, reason))
        self.session.store.remove_state(study, number)
        if study != self.study:
            self.session.listener(Repeating(study, None, ended))
            return
        self.session.listener(ended)
        check_failures(self.session.store.load_study(study), self.max_failures)
