"""Trials in processes of their own, one or several at once, each replaced after a few trials.

TensorFlow keeps tens of megabytes of every network that it has traced; they go with the process. A crash of native
code, or too little memory, ends such a process and not the study.
"""

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

from pneumosearch._utils.hardware import environments
from pneumosearch._utils.processes import Helper
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import PneumosearchError
from pneumosearch.network.backend import device_in_words, idle_gpu_warning
from pneumosearch.search.events import DeviceFound
from pneumosearch.search.runner import Outcome
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.training.loop import prepare
from pneumosearch.workers.supervisor import Failed, ProcessEvent, TrainingProcess, supervise
from pneumosearch.workers.work import Limits, Work

_LOOK_AT_STOP: Final = 0.2  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Job:
    """What a training process needs to know; it can be pickled."""

    url: str
    results: Path
    source: DataSource
    work: Work
    limits: Limits
    artifacts: str | None = None  # URL of those that machines share
    steps_every: float | None = None  # as of `Session`
    environment: Mapping[str, str] = field(default_factory=dict)  # its share of this machine


def run_locally(
    session: Session,
    work: Work,
    limits: Limits | None = None,
    *,
    workers: int = 1,
    helpers: list[Helper] | None = None,
) -> Outcome:
    """Train until nothing of `work` is left, in `workers` processes at a time.

    Args:
        session: Store, images, listener, and the flag to stop.
        work: What is trained.
        limits: Of each process.
        workers: Processes at a time.
        helpers: Processes that were started early; those used are taken out of the list.

    Raises:
        ConfigError: More than one process for work of one.
        PneumosearchError: As `Work.train`, or the training processes cannot be kept alive.
    """
    job = make_job(session, work, limits, workers)
    jobs = [replace(job, environment=environment) for environment in environments(workers)]
    return supervise(session, work.study, _OwnProcesses(jobs, helpers or []), workers, job.limits.max_failures)


def make_job(session: Session, work: Work, limits: Limits | None, workers: int) -> Job:
    """Return what each of `workers` training processes needs to know, wherever it runs; arguments as of `run_locally`.

    Raises:
        ConfigError: More than one process for work of one.
    """
    work.check(workers)
    source, store = replace(session.source, progress=None), session.store
    known = (store.url, store.results, source, work, limits or Limits())
    return Job(*known, store.artifacts_url, session.steps_every)


@dataclass(frozen=True)
class _OwnProcesses:
    """Training processes of this machine, by their jobs; the first of them may have been started early."""

    jobs: Sequence[Job]
    helpers: list[Helper]

    def start(self, number: int) -> "_OwnProcess":
        job = self.jobs[number]
        return _OwnProcess(self.helpers.pop(0) if self.helpers else Helper(job.environment, prepare), job)

    def events(self, processes: Mapping[int, "_OwnProcess"]) -> Iterator[tuple[int, ProcessEvent | None]]:
        ready = set(wait([process.events for process in processes.values()], _LOOK_AT_STOP))
        for number, process in processes.items():
            if process.events not in ready:
                continue
            try:
                yield number, process.events.recv()
            except (EOFError, OSError):
                yield number, None


class _OwnProcess(TrainingProcess):
    """One process, its events (process to us) and its orders (us to the process)."""

    def __init__(self, helper: Helper, job: Job) -> None:
        super().__init__()
        self._helper, self.events = helper, helper.events
        self._send(partial(_work, job))
        self._ordered = False

    def order(self, reason: str) -> None:
        if not self._ordered:
            self._ordered = self._send(reason)

    def _send(self, order: object) -> bool:
        try:
            self._helper.send(order)
        except OSError:
            return False  # it is gone; its events show that
        return True

    def end(self) -> None:
        self._helper.end()

    @property
    def ended_by(self) -> str:
        code = self._helper.exit_code
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"


def train_trials(job: Job, send: Callable[[ProcessEvent], None], stop: StopFlag) -> None:
    """Train a few trials in this process.

    Args:
        job: What is trained, and how much of it.
        send: Receives what happens, and at last how it ended.
        stop: Another thread sets it.
    """
    send(DeviceFound(device_in_words(), idle_gpu_warning()))
    store = Store(job.url, job.results, artifacts=job.artifacts)
    session = Session(store, job.source, send, stop, job.steps_every)
    send(job.work.train(session, job.limits))


def one_line_error(error: Exception) -> PneumosearchError:
    """Return the error as one line that another process can show; a note has the traceback."""
    if isinstance(error, PneumosearchError):
        return error
    known = PneumosearchError(f"{type(error).__name__}: {error}".splitlines()[0])
    known.add_note("".join(traceback.format_exception(error)))
    return known


def _work(job: Job, events: Connection, orders: Connection) -> None:
    """Train a few trials; the task of a training process."""
    stop = StopFlag()
    threading.Thread(target=_follow_orders, args=(orders, stop), daemon=True).start()
    try:
        train_trials(job, events.send, stop)
    except Exception as error:  # noqa: BLE001  the parent shows it in one line
        events.send(Failed(one_line_error(error)))


def _follow_orders(orders: Connection, stop: StopFlag) -> None:
    """Wait for the order to stop. Exit when the parent closes the pipe: the store allows that at any moment."""
    try:
        stop.reason = orders.recv()
        orders.recv()
    except (EOFError, OSError):
        os._exit(0)
