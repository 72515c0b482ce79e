"""A mirror follows trials in a thread of its own, whatever the tool behind it does."""

import threading

from pneumosearch.records.trial import TrialRecord
from pneumosearch.tracking.mirror import Mirror
from tests.support.fakes import a_trial

SOON = 30.0  # s: how long a test waits for what comes at once


class FakeRuns:
    """Remembers what is written; waits while it is shut, and fails the first few times."""

    def __init__(self, failures: int = 0) -> None:
        self.written: list[tuple[int, int]] = []
        self.failures, self.closed = failures, False
        self.open, self.asked, self.wrote = threading.Event(), threading.Event(), threading.Event()
        self.open.set()

    def write(self, trial: TrialRecord) -> None:
        self.asked.set()
        assert self.open.wait(SOON)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("http://me:secret@host refused\nwith more lines")
        self.written.append((trial.number, len(trial.history)))
        self.wrote.set()

    def close(self) -> None:
        self.closed = True


def test_everything_is_written_in_order_and_then_closed() -> None:
    runs = FakeRuns()
    mirror = Mirror("tool", lambda: runs, lambda text: None)
    mirror.put(a_trial(0, 0.5))
    mirror.put(a_trial(1, 0.5, 0.6))
    mirror.end()
    assert mirror.wait(SOON)
    assert (runs.written, runs.closed, mirror.n_waiting()) == ([(0, 1), (1, 2)], True, 0)


def test_slow_tool_delays_nobody_and_is_told_only_the_latest_of_each_trial() -> None:
    runs = FakeRuns()
    runs.open.clear()
    mirror = Mirror("tool", lambda: runs, lambda text: None)
    mirror.put(a_trial(0, 0.5))
    assert runs.asked.wait(SOON)  # it hangs in the first call
    for epochs in range(2, 50):
        mirror.put(a_trial(0, *[0.5] * epochs))
    mirror.put(a_trial(1, 0.5))
    mirror.end()
    assert not mirror.wait(0.0)
    assert mirror.n_waiting() == 2
    runs.open.set()
    assert mirror.wait(SOON)
    assert runs.written == [(0, 1), (0, 49), (1, 1)]


def test_failure_is_said_once_without_passwords_and_tried_again() -> None:
    runs, said = FakeRuns(failures=2), list[str]()
    mirror = Mirror("mlflow:http://me:secret@host", lambda: runs, said.append, retry_after=0.0)
    mirror.put(a_trial(0, 0.5))
    assert runs.wrote.wait(SOON)
    mirror.end()
    assert mirror.wait(SOON)
    assert runs.written == [(0, 1)]
    assert said == ["warning: --log mlflow:http://***@host: http://***@host refused; training goes on"]


def test_tool_that_cannot_be_reached_leaves_its_trials_waiting() -> None:
    def refuse() -> FakeRuns:
        raise ConnectionError("nobody there")

    said = list[str]()
    mirror = Mirror("tool", refuse, said.append)
    mirror.put(a_trial(0, 0.5))
    mirror.put(a_trial(1, 0.5))
    mirror.end()
    assert mirror.wait(SOON)
    assert (len(said), mirror.n_waiting()) == (1, 2)
