"""Trials in a process of their own, begun anew every few trials.

TensorFlow keeps tens of megabytes of every network that it has traced; they go with the process. And whatever ends the
process (a crash of native code, the system out of memory) does not end the study.
"""

import multiprocessing
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from pneumosearch.config import RunSpec
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import PneumosearchError
from pneumosearch.history import History
from pneumosearch.objective import Listener, Session, StopFlag
from pneumosearch.records import TrialRecord
from pneumosearch.store import Store
from pneumosearch.study import MAX_FAILURES, Outcome, check_failures
from pneumosearch.studyfile import StudySpec
from pneumosearch.tuner import open_run

#: Trials that a process trains before it makes room for the next; starting one takes a few seconds.
TRIALS_A_PROCESS: Final = 10

_LOOK_AT_STOP: Final = 0.2  # seconds between two looks at whether to stop
_PATIENCE: Final = 2  # a trial whose process dies as often without a new epoch has failed


@dataclass(frozen=True)
class Job:
    """What a training process has to know; it can be pickled."""

    url: str
    results: Path
    source: DataSource
    spec: StudySpec
    n_trials: int
    max_failures: int
    trials_a_process: int


def search(
    session: Session,
    spec: StudySpec,
    n_trials: int,
    max_failures: int = MAX_FAILURES,
    trials_a_process: int = TRIALS_A_PROCESS,
) -> Outcome:
    """Train until the study of `spec` has `n_trials` ended trials in all, in one process after another.

    Raises:
        PneumosearchError: As `StudyRun.until`, or the training process cannot be kept alive.
    """
    source = replace(session.source, progress=None)
    job = Job(session.store.url, session.store.results, source, spec, n_trials, max_failures, trials_a_process)
    deaths = _Deaths(session, spec.name, max_failures)
    while True:
        process = _TrainingProcess(job)
        try:
            outcome = process.attend(session.listener, session.stop, deaths.note)
        finally:
            process.end()
        if outcome is None:
            deaths.add(process.ended_by)
        elif outcome.stopped or outcome.done:
            return outcome


class _TrainingProcess:
    """One process, its events (process to us) and its orders (us to the process)."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self._events, events = context.Pipe(duplex=False)
        orders, self._orders = context.Pipe(duplex=False)
        self._process: SpawnProcess = context.Process(target=_work, args=(job, events, orders), daemon=True)
        self._process.start()
        events.close()  # ours of its ends, so that its death ends the pipe
        orders.close()

    def attend(
        self, listener: Listener, stop: StopFlag, note: Callable[[str, tuple[Any, ...]], None]
    ) -> Outcome | None:
        """Pass on what the process tells until it ends; None where it died before it told an outcome."""
        ordered = False
        while True:
            if stop() and not ordered:
                ordered = self._order(stop.reason)
            try:
                if not self._events.poll(_LOOK_AT_STOP):
                    continue
                kind, content = self._events.recv()
            except (EOFError, OSError):
                return None
            if kind == "outcome":
                return Outcome(*content)
            if kind == "error":
                raise content[0]
            note(kind, content)
            getattr(listener, kind)(*content)

    def _order(self, reason: str) -> bool:
        try:
            self._orders.send(reason)
        except OSError:
            return False  # it is gone, as the events will tell
        return True

    def end(self) -> None:
        """Let the process go, or make it: nothing that it saved is lost either way."""
        self._orders.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def ended_by(self) -> str:
        code = self._process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"


@dataclass
class _Deaths:
    """Processes that died, and what they were at."""

    session: Session
    study: str
    max_failures: int
    _at: tuple[int, int] | None = None  # trial and its epochs, of the living process
    _last: tuple[int, int] | None = None  # the same, of the last death
    _count: int = 0

    def note(self, kind: str, content: tuple[Any, ...]) -> None:
        """Take note of an event."""
        if kind == "trial_started":
            self._at = (content[0], 0)
        elif kind == "epoch_ended":
            self._at = (content[0], len(content[1]))
        else:
            self._at = None

    def add(self, ended_by: str) -> None:
        """Count a death; a trial at which two processes died without a new epoch fails, and the study goes on.

        Raises:
            PneumosearchError: Two processes died before they had a trial, or too many trials failed like this.
        """
        self._count = self._count + 1 if self._at == self._last else 1
        at, self._last, self._at = self._at, self._at, None
        if self._count < _PATIENCE:
            return
        if at is None:
            raise PneumosearchError(f"the training process does not start: {ended_by}")
        number, epochs = at
        reason = f"its process died twice after epoch {epochs}: {ended_by}"
        reason += ", perhaps out of memory" if "SIGKILL" in ended_by else ""
        shutil.rmtree(self.session.store.checkpoint_folder(self.study, number), ignore_errors=True)
        self.session.listener.trial_ended(self.session.store.fail_trial(self.study, number, reason))
        self._count, self._last = 0, None
        check_failures(self.session.store.load_study(self.study), self.max_failures)


class _Reporter:
    """Tells the parent process what happens in trials."""

    def __init__(self, events: Connection) -> None:
        self._events = events

    def trial_started(self, number: int, run: RunSpec) -> None:
        self._events.send(("trial_started", (number, run)))

    def epoch_ended(self, number: int, history: History) -> None:
        self._events.send(("epoch_ended", (number, history)))

    def trial_ended(self, record: TrialRecord) -> None:
        self._events.send(("trial_ended", (record,)))


def _work(job: Job, events: Connection, orders: Connection) -> None:
    """Train a few trials; the target of a training process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which tells us what it means
    stop = StopFlag()
    threading.Thread(target=_obey, args=(orders, stop), daemon=True).start()
    session = Session(Store(job.url, job.results), job.source, _Reporter(events), stop)
    try:
        run = open_run(session, job.spec)
        run.max_failures = job.max_failures
        outcome = run.until(job.n_trials, at_most=job.trials_a_process)
        events.send(("outcome", (outcome.finished, outcome.stopped, outcome.done)))
    except PneumosearchError as error:
        events.send(("error", (error,)))
    except Exception as error:  # noqa: BLE001  told by the parent in one line
        known = PneumosearchError(f"{type(error).__name__}: {error}".splitlines()[0])
        known.add_note(traceback.format_exc())
        events.send(("error", (known,)))


def _obey(orders: Connection, stop: StopFlag) -> None:
    """Wait for the order to stop; when the parent is gone, go too, as the store is fit for that at any moment."""
    try:
        stop.reason = orders.recv()
        orders.recv()
    except (EOFError, OSError):
        os._exit(0)
