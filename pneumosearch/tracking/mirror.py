"""Runs in another tool follow the trials of a study, in a thread of their own: what is slow or broken stops nothing."""

import threading
from collections.abc import Callable
from typing import Final, Protocol

from pneumosearch.errors import as_message
from pneumosearch.records.trial import TrialRecord
from pneumosearch.storage.retry import first_line

#: Seconds from a failure to the next attempt.
RETRY_AFTER: Final = 30.0

_REASON: Final = 300  # characters that are said of an error


class Runs(Protocol):
    """Where trials are written. Each call is told all of a trial, and writes what is not there."""

    def write(self, trial: TrialRecord) -> None:
        """Write what the run of a trial lacks; any exception means that it should be tried again."""

    def close(self) -> None:
        """Give back what is open."""


class Mirror:
    """Keeps runs equal to the trials that it is told of. Of a trial only the latest state waits, so nothing is lost.

    Args:
        label: Of the destination, for messages.
        connect: Opens the destination; called in the thread, and again after a failure.
        warn: Told the first failure, and what is not written at the end.
        retry_after: Seconds from a failure to the next attempt.
    """

    def __init__(
        self, label: str, connect: Callable[[], Runs], warn: Callable[[str], None], retry_after: float = RETRY_AFTER
    ) -> None:
        self.label = as_message(label)
        self._connect, self._warn, self._retry_after = connect, warn, retry_after
        self._pending: dict[int, TrialRecord] = {}
        self._given_up: set[int] = set()
        self._changed = threading.Condition()
        self._ending = self._warned = False
        self._thread = threading.Thread(target=self._work, daemon=True, name=self.label)
        self._thread.start()

    def put(self, trial: TrialRecord) -> None:
        """Take a trial as it is now. Never waits for the destination."""
        with self._changed:
            self._pending[trial.number] = trial
            self._changed.notify()

    def end(self) -> None:
        """Write what waits and then stop; returns at once."""
        with self._changed:
            self._ending = True
            self._changed.notify()

    def wait(self, seconds: float) -> bool:
        """Wait for the end, at most so long; tell whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def n_waiting(self) -> int:
        """Return the number of trials that are not written."""
        with self._changed:
            return len(self._pending)

    def _work(self) -> None:
        runs: Runs | None = None
        while (trial := self._next()) is not None:
            try:
                runs = runs or self._connect()
                runs.write(trial)
            except Exception as error:  # noqa: BLE001  whatever another tool raises, the study goes on
                self._failed(trial, error)
            else:
                self._written(trial)
        if runs is not None:
            runs.close()

    def _next(self) -> TrialRecord | None:
        """Return the trial that waits longest, once there is one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._ending)
            return next((trial for number, trial in self._pending.items() if number not in self._given_up), None)

    def _written(self, trial: TrialRecord) -> None:
        with self._changed:
            if self._pending[trial.number] is trial:
                del self._pending[trial.number]

    def _failed(self, trial: TrialRecord, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            self._warn(f"warning: --log {self.label}: {as_message(first_line(error))[:_REASON]}; training goes on")
        with self._changed:
            self._pending[trial.number] = self._pending.pop(trial.number)  # others have their turn first
            if self._ending:
                self._given_up.add(trial.number)
            else:
                self._changed.wait_for(lambda: self._ending, self._retry_after)
