"""What all trials of one run of the program share, and how such a run is stopped."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from pneumosearch.data.protocols import DataSource
from pneumosearch.search.events import Listener
from pneumosearch.storage.store import Store
from pneumosearch.storage.trial_files import TrialFiles


class Interrupted(Exception):
    """The user or the time limit stops the study. The trial has saved its epoch and can go on."""


class Deferred(Interrupted):
    """The trial has saved its epoch and lets others go first."""


@dataclass
class StopFlag:
    """Why training should stop after the present epoch; empty while it should not."""

    deadline: float = float("inf")  # of `time.monotonic`
    reason: str = ""

    @classmethod
    def after(cls, seconds: float) -> "StopFlag":
        """Stop when this time is over."""
        return cls(time.monotonic() + seconds)

    def __call__(self) -> bool:
        """Tell whether to stop."""
        if not self.reason and time.monotonic() >= self.deadline:
            self.reason = "the time is up"
        return bool(self.reason)


class TrialSession(Protocol):
    """What the training of a trial needs."""

    @property
    def store(self) -> TrialFiles:
        """Where the trial keeps its files."""

    @property
    def source(self) -> DataSource:
        """The images."""

    @property
    def listener(self) -> Listener:
        """Receives what happens."""

    @property
    def stop(self) -> StopFlag:
        """Looked at after every epoch."""

    @property
    def steps_every(self) -> float | None:
        """Seconds between two `StepsDone` of a training; None where nobody looks."""


@dataclass(frozen=True)
class Session:
    """What all trials of one run of the program share: store, images, listener, and when to stop."""

    store: Store
    source: DataSource
    listener: Listener
    stop: StopFlag
    steps_every: float | None = None  # seconds between two `StepsDone` of a training; None where nobody looks


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
