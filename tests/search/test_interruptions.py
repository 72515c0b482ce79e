"""Trials that fail or are stopped, and the study that goes on."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy.exc import OperationalError

from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import PneumosearchError, StoreError, TrainingError
from pneumosearch.records.attributes import OWNER
from pneumosearch.search import objective as objective_module
from pneumosearch.search.leases import identity
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Interrupted, Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.training.loop import TrainingResult
from tests.support.fakes import SilentListener, trial_id
from tests.support.searching import SPEC, fake_train, outcome, search


def test_failing_trial_is_told_and_the_study_goes_on(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([TrainingError("epoch 2: loss is nan"), None, MemoryError("no room"), None])

    def sometimes(*arguments: Any) -> TrainingResult:
        error = next(calls)
        if error:
            raise error
        return fake_train(*arguments)

    monkeypatch.setattr(objective_module, "train", sometimes)
    search(store, source).until(4)
    record = store.record("tiny")
    assert [trial.state for trial in record.trials] == ["failed", "complete", "failed", "complete"]
    assert [trial.failure for trial in record.trials][::2] == ["epoch 2: loss is nan", "MemoryError: no room"]


def test_same_failure_three_times_stops_the_study(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> TrainingResult:
        raise ValueError("no such kernel")

    monkeypatch.setattr(objective_module, "train", broken)
    with pytest.raises(PneumosearchError, match="3 trials in a row failed with: ValueError: no such kernel"):
        search(store, source).until(50)
    assert len(store.record("tiny").trials) == 3


@pytest.mark.usefixtures("fake")
def test_timeout_leaves_the_trial_to_go_on(store: Store, source: DataSource) -> None:
    assert search(store, source, stop=StopFlag.after(0.0)).until(5).stopped == "the time is up"
    assert len(store.record("tiny").trials) == 1  # the baseline waits
    assert search(store, source).until(5).finished == 5


def test_interrupted_trial_is_taken_up_with_its_number_and_equals_its_twin(
    store: Store, source: DataSource, tmp_path: Path
) -> None:
    stop = StopFlag()

    class StopAfterThirdEpoch(SilentListener):
        def epoch_ended(self, number: int, history: Any) -> None:
            super().epoch_ended(number, history)
            stop.reason = "interrupted" if len(self.epochs) == 3 else stop.reason

    open_search(Session(store, source, StopAfterThirdEpoch(), stop), SPEC).until(2)
    states = [(trial.state, len(trial.history)) for trial in store.record("tiny").trials]
    assert states == [("complete", 2), ("running", 1)]
    forget_owner(store, 1)
    search(store, source).until(2)
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    search(twin, source).until(2)
    assert outcome(store.record("tiny")) == outcome(twin.record("tiny"))


def forget_owner(store: Store, number: int) -> None:
    """As if the process that trained the trial had ended."""
    study = store.load_study("tiny")
    owner = OWNER.of(study.get_trials(deepcopy=False)[number])
    if owner is not None:  # which a process that was asked to stop forgets itself
        gone = owner.model_copy(update={"started": 0.0})
        OWNER.set_by_id(store.storage, trial_id(study, store.storage, number), gone)


@pytest.mark.usefixtures("fake")
def test_trial_of_a_living_process_is_not_taken(store: Store, source: DataSource) -> None:
    run = search(store, source)
    trial = run.next_trial()
    OWNER.set(trial, identity(psutil.Process(os.getppid())))
    assert search(store, source).next_trial().number == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OperationalError("UPDATE", {}, Exception("database is locked")), "database is locked"),
        (OSError(errno.ENOSPC, "in a library's own words"), "No space left on device; what was saved is safe"),
        (OSError(errno.EROFS, "in a library's own words"), "Read-only file system; what was saved is safe"),
    ],
    ids=["locked database", "full disk", "read-only disk"],
)
@pytest.mark.usefixtures("fake")
def test_fault_of_the_machine_stops_the_study_and_leaves_the_trial_to_go_on(
    error: Exception, told: str, store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = search(store, source)

    def faulty(*arguments: Any) -> TrainingResult:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(objective_module, "train", faulty)
        with pytest.raises(StoreError, match=told):
            run.until(3)
    assert store.record("tiny").trials[0].state == "running"
    assert search(store, source).until(3).finished == 3
    assert store.record("tiny").count("complete") == 3


def test_interrupted_is_no_failure() -> None:
    assert not issubclass(Interrupted, PneumosearchError)
    assert threading.current_thread() is threading.main_thread()
