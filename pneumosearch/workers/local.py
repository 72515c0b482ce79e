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

from pneumosearch._utils.hardware import environments
from pneumosearch._utils.processes import Helper
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import PneumosearchError
from pneumosearch.network.backend import device_in_words, idle_gpu_warning
from pneumosearch.search.events import DeviceFound, Listener
from pneumosearch.search.runner import Outcome
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.training.loop import prepare
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
    job, early, shares = make_job(session, work, limits, workers), helpers or [], environments(workers)

    def start(number: int) -> TrainingProcess:
        helper = early.pop(0) if early else Helper(shares[number], prepare)
        return TrainingProcess(helper, partial(_work, job))

    return supervise(session, work.study, start, workers, job.limits.max_failures)


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
