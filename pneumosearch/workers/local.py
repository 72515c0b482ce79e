"""Trials in processes of their own, one or several at once, each replaced after a few trials.

TensorFlow keeps tens of megabytes of every network that it has traced; they go with the process. A crash of native
code, or too little memory, ends such a process and not the study.
"""

import os
import threading
import traceback
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from pneumosearch._utils.hardware import environments, memory_warning, visible_devices
from pneumosearch._utils.processes import Helper
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import PneumosearchError
from pneumosearch.network.backend import device_in_words, idle_gpu_warning
from pneumosearch.search.events import DeviceFound, Listener
from pneumosearch.search.runner import Outcome
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.workers.crew import prepare
from pneumosearch.workers.supervisor import Failed, TrainingProcess, supervise
from pneumosearch.workers.work import Limits, Work


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

    def session(self, listener: Listener, stop: StopFlag) -> Session:
        """Open the store here, and return what trainings here share."""
        store = Store(self.url, self.results, artifacts=self.artifacts)
        return Session(store, self.source, listener, stop, self.steps_every)


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
    with _Processes(job, workers, helpers or []) as processes:
        start, foresee, max_failures = processes.start, processes.foresee, job.limits.max_failures
        return supervise(session, work.study, start, workers, max_failures=max_failures, foresee=foresee)


class _Processes:
    """Starts training processes; of those that end after their trials, one at a time is replaced ahead.

    Until the context ends, that one waits in reserve: it has imported what the first trial needs.
    """

    def __init__(self, job: Job, workers: int, early: list[Helper]) -> None:
        self._job, self._early, self._shares = job, early, environments(workers)
        self._started = 0
        self._reserve: dict[int, Helper] = {}  # at most one, by the number of the process that it is to replace

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for helper in self._reserve.values():
            helper.end(timeout=0.0)

    def start(self, number: int) -> TrainingProcess:
        """Start the process of this number, or start it again."""
        self._started += 1
        helper = self._early.pop(0) if self._early else self._reserve.pop(number, None)
        return TrainingProcess(helper or self._new(number), partial(_work, self._job))

    def foresee(self, number: int, begun: int) -> None:
        """Start the next process of this number when the present one has begun its last trial."""
        at_most = self._job.limits.trials_a_process
        if begun < at_most or self._reserve or self._started * at_most >= self._job.work.n:
            return
        # A second process on an accelerator takes memory of it too, and nobody has tried that.
        if memory_warning(1) is None and not visible_devices():
            self._reserve[number] = self._new(number)

    def _new(self, number: int) -> Helper:
        return Helper(self._shares[number], prepare)


def make_job(session: Session, work: Work, limits: Limits | None, workers: int) -> Job:
    """Return what each of `workers` training processes needs to know, wherever it runs; arguments as of `run_locally`.

    Raises:
        ConfigError: More than one process for work of one.
    """
    work.check(workers)
    source, store = replace(session.source, progress=None), session.store
    known = (store.url, store.results, source, work, limits or Limits())
    return Job(*known, store.artifacts_url, session.steps_every)


def one_line_error(error: Exception) -> PneumosearchError:
    """Return the error as one line that another process can show; a note has the traceback."""
    if isinstance(error, PneumosearchError):
        return error
    known = PneumosearchError(f"{type(error).__name__}: {error}".splitlines()[0])
    known.add_note("".join(traceback.format_exception(error)))
    return known


def _work(job: Job, events: Connection, orders: Connection) -> None:
    """Train a few trials; the task of a training process. It sends what happens, and at last how it ended."""
    stop = StopFlag()
    threading.Thread(target=_follow_orders, args=(orders, stop), daemon=True).start()
    try:
        events.send(DeviceFound(device_in_words(), idle_gpu_warning()))
        events.send(job.work.train(job.session(events.send, stop), job.limits))
    except Exception as error:  # noqa: BLE001  the parent shows it in one line
        events.send(Failed(one_line_error(error)))


def _follow_orders(orders: Connection, stop: StopFlag) -> None:
    """Wait for the order to stop. Exit when the parent closes the pipe: the store allows that at any moment."""
    try:
        stop.reason = orders.recv()
        orders.recv()
    except (EOFError, OSError):
        os._exit(0)
