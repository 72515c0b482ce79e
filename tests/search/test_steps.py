"""What a listener hears of the steps of a training."""

from unittest.mock import Mock

import pytest

from pneumosearch._utils.processes import Helper
from pneumosearch.data.protocols import DataSource
from pneumosearch.search import objective as objective_module
from pneumosearch.search.events import EpochEnded, StepsDone, TrialEnded, TrialEvent, TrialStarted
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.search.steps import step_reporter
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import checked_spec
from pneumosearch.training.loop import Step
from pneumosearch.workers.supervisor import Progress, TrainingProcess
from tests.support.searching import fake_train


class Clock:
    """Time that passes as told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_reports_are_spaced_in_time_and_hold_what_happened_between_them() -> None:
    clock, heard = Clock(), list[TrialEvent]()
    report = step_reporter(heard.append, 7, 0.5, clock=clock)
    assert report is not None
    for epoch in (1, 2):
        clock.now += 10.0  # of building, or of the last evaluation
        for number in range(1, 11):
            report(Step(epoch, number, 10, 32, loss=float(number)))
            clock.now += 0.2
    first = [event for event in heard if isinstance(event, StepsDone) and event.epoch == 1]
    assert [event.step for event in first] == [1, 4, 7, 10]
    assert [event.loss for event in first] == [1.0, 3.0, 6.0, 9.0]
    assert [event.images_per_second for event in first] == [None, *[pytest.approx(32 / 0.2)] * 3]
    assert [event for event in heard if isinstance(event, StepsDone)][4] == StepsDone(7, 2, 1, 10, 1.0, None)


def test_epoch_of_one_step_is_one_report_and_the_small_images_are_epoch_0() -> None:
    heard = list[TrialEvent]()
    report = step_reporter(heard.append, 7, 0.5, screening=True)
    assert report is not None
    report(Step(1, 1, 1, 32, 0.7))
    assert heard == [StepsDone(7, 0, 1, 1, 0.7, None)]


@pytest.mark.parametrize("every", [None, 0.5])
def test_steps_are_told_only_where_somebody_looks(
    every: float | None, store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "train", fake_train)
    heard = list[TrialEvent]()
    spec = checked_spec({"fixed": {"image_size": 32, "epochs": 2}, "precision": "float32"}, "test")
    open_search(Session(store, source, heard.append, StopFlag(), every), spec).until(1)
    kinds = [type(event) for event in heard]
    epoch = [StepsDone, EpochEnded] if every else [EpochEnded]
    assert kinds == [TrialStarted, *epoch, *epoch, TrialEnded]


def test_process_still_trains_its_trial_between_two_epochs() -> None:
    process = TrainingProcess(Mock(Helper, events=None), lambda events, orders: None)
    process.training = (3, Progress(epochs=2))
    process.note(StepsDone(3, 3, 5, 10, 0.5, None))
    assert process.training == (3, Progress(epochs=2))
