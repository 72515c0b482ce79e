import pytest

from benchmarks.trial import Clock
from pneumosearch.search.events import EpochEnded, StepsDone, TrialDeferred, TrialEnded, TrialStarted
from tests.support.fakes import a_history, a_trial


def test_time_between_events_belongs_to_the_phase_that_they_end() -> None:
    record = a_trial(0, 0.8, 0.9)
    assert record.run is not None
    events = (
        (TrialStarted(0, record.run), 5.0),
        (StepsDone(0, 1, 1, 9, 0.5, None), 2.0),
        (StepsDone(0, 1, 9, 9, 0.5, 1.0), 10.0),
        (EpochEnded(0, a_history(0.8)), 1.0),
        (TrialDeferred(0), 0.0),
        (StepsDone(0, 2, 1, 9, 0.5, None), 3.0),
        (StepsDone(0, 2, 9, 9, 0.5, 1.0), 7.0),
        (EpochEnded(0, a_history(0.8, 0.9)), 1.0),
        (TrialEnded(record), 1.0),
    )
    now = 0.0
    clock = Clock(lambda: now)
    clock.start()
    for event, seconds in events:
        now += seconds
        clock(event)
    assert list(clock.phases.values()) == [5, 2, 20, 2, 1]
    assert clock.outside_share == pytest.approx(8 / 30)
