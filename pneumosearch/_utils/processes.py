"""Processes that import what a training needs while their parent still reads images, and then do what they are given.

Importing Keras with its backend takes seconds, of which a process that is begun early takes none from the first trial.
This module itself imports nothing that takes time.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pneumosearch._utils.hardware import environments

#: Takes where to tell what happens and where orders come from; it must be picklable.
Task = Callable[[Connection, Connection], None]

_log = logging.getLogger(__name__)


class Helper:
    """A process, begun at once, that waits for its task when it is ready.

    Args:
        environment: Variables that it has besides ours.
        prepare: What it does before it has a task; a function of a module.
    """

    def __init__(self, environment: Mapping[str, str], prepare: Callable[[], None]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self.events, events = context.Pipe(duplex=False)
        orders, self._orders = context.Pipe(duplex=False)
        arguments = (dict(environment), events, orders)
        self._process: SpawnProcess = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        events.close()  # ours of its ends, so that its death ends the pipe
        orders.close()
        with suppress(OSError):  # it is gone already, as its events will tell
            self.send(prepare)  # and not as an argument, which would be imported before the environment is there

    def send(self, order: object) -> None:
        """Send the task, and later the orders that the task understands. Raises `OSError` where it is gone."""
        self._orders.send(order)

    def end(self, patience: float = 10.0) -> None:
        """Let it go; make it after so many seconds."""
        self._orders.close()
        self._process.join(patience)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def exit_code(self) -> int:
        """Exit status of an ended process; of one that a signal ended, minus the signal's number."""
        return self._process.exitcode or 0


@contextmanager
def prestarted(n: int, prepare: Callable[[], None]) -> Iterator[list[Helper]]:
    """Start `n` processes, each with its share of this machine; those still in the list at the end are killed."""
    helpers = [Helper(environment, prepare) for environment in environments(n)]
    try:
        yield helpers
    finally:
        for helper in helpers:
            helper.end(patience=0.0)


def _work(environment: dict[str, str], events: Connection, orders: Connection) -> None:
    """Get ready, then do the task; the target of a process."""
    os.environ.update(environment)  # before anything looks at it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which tells us what it means
    threading.Thread(target=_go_with_parent, daemon=True).start()
    try:
        orders.recv()()
    except Exception as error:  # noqa: BLE001  the task meets it again, and tells
        _log.debug("not ready: %s", error)
    try:
        task: Task = orders.recv()
    except (EOFError, OSError):
        return
    task(events, orders)


def _go_with_parent() -> None:
    """End this process when its parent is gone, as what it does can be ended at any moment."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)
