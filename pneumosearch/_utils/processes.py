"""Helper processes that start early: they import Keras while their parent reads images, then wait for a task.

Importing Keras and its backend takes seconds. A process that starts early has done so before the first trial.
multiprocessing starts one only together with its task, and its pools hide which process died, and of what. This module
imports nothing slow.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pneumosearch._utils.hardware import environments

#: A picklable function of the connection for events to the parent and the connection for orders from it.
Task = Callable[[Connection, Connection], None]

_log = logging.getLogger(__name__)


class Helper:
    """A process that starts at once, prepares itself and then waits for its task.

    Args:
        environment: Environment variables in addition to those of this process.
        prepare: Called in the process before the task arrives; it must be picklable, such as a function of a module.
    """

    def __init__(self, environment: Mapping[str, str], prepare: Callable[[], None]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self.events, events = context.Pipe(duplex=False)
        orders, self._orders = context.Pipe(duplex=False)
        arguments = (dict(environment), events, orders)
        self._process: SpawnProcess = context.Process(target=_work, args=arguments, daemon=True)
        with _script_left_out():
            self._process.start()
        events.close()  # close our copies of its ends, so that its death closes the pipe
        orders.close()
        self.send(prepare)  # not as an argument, which would be unpickled before the environment is set

    def send(self, order: object) -> None:
        """Send the task, and later orders for the task; where the process has ended, its closed events show that."""
        with suppress(OSError):
            self._orders.send(order)

    def end(self, timeout: float = 10.0) -> None:
        """Let the process end by itself; kill it after `timeout` seconds."""
        self._orders.close()
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def exit_code(self) -> int:
        """Exit status of the ended process; minus the signal number if a signal ended it."""
        return self._process.exitcode or 0


@contextmanager
def _script_left_out() -> Iterator[None]:
    """Start a process that does not run the user's script again: its task is in this package.

    Python would import the script into the new process, for tasks that it defines; a script that starts a study
    without `if __name__ == "__main__"` would then start another one there.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or getattr(main, "__spec__", None) is not None:  # no script: a notebook, or `python -m`
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = path


@contextmanager
def prestarted(n: int, prepare: Callable[[], None]) -> Iterator[list[Helper]]:
    """Yield `n` started processes, each with its share of this machine; kill those that remain in the list."""
    helpers = [Helper(environment, prepare) for environment in environments(n)]
    try:
        yield helpers
    finally:
        for helper in helpers:
            helper.end(timeout=0.0)


def _work(environment: dict[str, str], events: Connection, orders: Connection) -> None:
    """Prepare, then run the task. This is the target of a helper process."""
    os.environ.update(environment)  # before any library reads it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent receives Ctrl-C too and sends an order
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        orders.recv()()
    except Exception as error:  # noqa: BLE001  the task will fail in the same way and report it
        _log.debug("preparation failed: %s", error)
    try:
        task: Task = orders.recv()
    except (EOFError, OSError):
        return
    task(events, orders)


def _end_with_parent() -> None:
    """End this process when its parent ends. A task may end at any moment, because it resumes from checkpoints."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)
