"""Trials in processes of their own, one or several at once, begun anew every few trials.

TensorFlow keeps tens of megabytes of every network that it has traced; they go with the process. And whatever ends a
process (a crash of native code, the system out of memory) does not end the study.
"""

import multiprocessing
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from pneumosearch.config import RunSpec
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import ConfigError, PneumosearchError, StoreError
from pneumosearch.history import History
from pneumosearch.objective import Session, StopFlag
from pneumosearch.owners import GRACE, Watch
from pneumosearch.records import TrialRecord
from pneumosearch.resources import environments
from pneumosearch.store import Store
from pneumosearch.study import MAX_FAILURES, Outcome, check_failures
from pneumosearch.studyfile import StudySpec, checked_spec
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
    grace: float
    environment: Mapping[str, str] = field(default_factory=dict)  # its share of this machine


def search(
    session: Session,
    spec: StudySpec,
    n_trials: int,
    max_failures: int = MAX_FAILURES,
    *,
    trials_a_process: int = TRIALS_A_PROCESS,
    workers: int = 1,
    grace: float = GRACE,
) -> Outcome:
    """Train until the study of `spec` has `n_trials` ended trials in all, in `workers` processes at a time.

    Args:
        session: Store, images, listener, and the flag to stop.
        spec: The study.
        n_trials: Of the study in all.
        max_failures: Stop when this many trials in a row fail for the same reason.
        trials_a_process: After so many a process makes room for the next.
        workers: Processes at a time.
        grace: Seconds without a sign of life after which trials of other machines are taken up.

    Raises:
        ConfigError: More than one process with an engine that is for one.
        PneumosearchError: As `StudyRun.until`, or the training processes cannot be kept alive.
    """
    if workers > 1 and spec.engine == "keras-tuner":
        raise ConfigError("--workers: KerasTuner proposes to one process at a time; use engine = 'optuna', or 1")
    source = replace(session.source, progress=None)
    store = session.store
    job = Job(store.url, store.results, source, spec, n_trials, max_failures, trials_a_process, grace)
    jobs = [replace(job, environment=environment) for environment in environments(workers)]
    deaths = _Deaths(session, spec.name, max_failures, workers)
    with ExitStack() as stack:
        processes = {number: _TrainingProcess(job) for number, job in enumerate(jobs)}
        stack.callback(lambda: _end(processes.values()))
        outcomes: list[Outcome] = []
        while processes:
            for number, outcome in _attend(processes, session, deaths):
                processes.pop(number).end()
                if outcome is not None and (outcome.stopped or outcome.done):
                    outcomes.append(outcome)
                else:
                    processes[number] = _TrainingProcess(jobs[number])
    return max(outcomes, key=lambda outcome: (outcome.done, outcome.finished))


def _attend(
    processes: Mapping[int, "_TrainingProcess"], session: Session, deaths: "_Deaths"
) -> list[tuple[int, Outcome | None]]:
    """Pass on what the processes tell; return those that have ended, with their outcome, None where they died."""
    ended: list[tuple[int, Outcome | None]] = []
    if session.stop():
        for process in processes.values():
            process.order(session.stop.reason)
    ready = set(wait([process.events for process in processes.values()], _LOOK_AT_STOP))
    for number, process in processes.items():
        if process.events not in ready:
            continue
        try:
            kind, content = process.events.recv()
        except (EOFError, OSError):
            process.end()
            deaths.add(process)
            ended.append((number, None))
            continue
        if kind == "outcome":
            ended.append((number, Outcome(*content)))
        elif kind == "error":
            raise content[0]
        else:
            process.note(kind, content)
            deaths.forget(kind)
            getattr(session.listener, kind)(*content)
    return ended


def _end(processes: Iterable["_TrainingProcess"]) -> None:
    for process in processes:
        process.end()


class _TrainingProcess:
    """One process, its events (process to us) and its orders (us to the process)."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self.events, events = context.Pipe(duplex=False)
        orders, self._orders = context.Pipe(duplex=False)
        self._process: SpawnProcess = context.Process(target=_work, args=(job, events, orders), daemon=True)
        self._process.start()
        events.close()  # ours of its ends, so that its death ends the pipe
        orders.close()
        self._ordered = False
        self.at: tuple[int, int] | None = None  # the trial that it trains, and the epochs of that

    def note(self, kind: str, content: tuple[Any, ...]) -> None:
        """Take note of what it is at."""
        if kind == "trial_started":
            self.at = (content[0], 0)
        elif kind == "epoch_ended":
            self.at = (content[0], len(content[1]))
        else:
            self.at = None

    def order(self, reason: str) -> None:
        """Let it stop after its present epoch."""
        if self._ordered:
            return
        try:
            self._orders.send(reason)
            self._ordered = True
        except OSError:
            return  # it is gone, as the events will tell

    def end(self) -> None:
        """Let the process go, or make it: nothing that it saved is lost either way."""
        self._orders.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def ended_by(self) -> str:
        """How it died, in words."""
        code = self._process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"


@dataclass
class _Deaths:
    """Processes that died, and what they were at."""

    session: Session
    study: str
    max_failures: int
    workers: int
    _at_trials: dict[int, tuple[int, int]] = field(default_factory=dict)  # by trial: epochs, deaths since
    _before_any: int = 0  # deaths of processes that had no trial, since the last event

    def forget(self, kind: str) -> None:
        """Take note that a process lives and trains."""
        self._before_any = 0

    def add(self, process: _TrainingProcess) -> None:
        """Count a death; a trial at which two processes died without a new epoch fails, and the study goes on.

        Raises:
            PneumosearchError: Processes die before they have a trial, or too many trials failed like this.
        """
        if process.at is None:
            self._before_any += 1
            if self._before_any >= _PATIENCE * self.workers:
                raise PneumosearchError(f"the training process does not start: {process.ended_by}")
            return
        number, epochs = process.at
        before, deaths = self._at_trials.get(number, (epochs, 0))
        self._at_trials[number] = (epochs, deaths + 1 if before == epochs else 1)
        if self._at_trials[number][1] >= _PATIENCE:
            self._fail(number, epochs, process.ended_by)

    def _fail(self, number: int, epochs: int, ended_by: str) -> None:
        reason = f"its process died twice after epoch {epochs}: {ended_by}"
        reason += ", perhaps out of memory" if "SIGKILL" in ended_by else ""
        shutil.rmtree(self.session.store.checkpoint_folder(self.study, number), ignore_errors=True)
        self.session.listener.trial_ended(self.session.store.fail_trial(self.study, number, reason))
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
    os.environ.update(job.environment)  # before anything looks at it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which tells us what it means
    stop = StopFlag()
    threading.Thread(target=_obey, args=(orders, stop), daemon=True).start()
    session = Session(Store(job.url, job.results), job.source, _Reporter(events), stop)
    try:
        run = open_run(session, job.spec)
        run.max_failures, run.watch = job.max_failures, Watch(job.grace)
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


def joined_spec(store: Store, name: str) -> StudySpec:
    """Return the study that the store has under this name, as its file or options said.

    Raises:
        StoreError: There is none, or it is no search.
    """
    record = store.record(name)
    if record.purpose != "search":
        raise StoreError(f"'{name}' is a {record.purpose}; only a search can be joined")
    return checked_spec({**record.spec, "name": name, "trials": store.goal(name)}, f"study '{name}'")
