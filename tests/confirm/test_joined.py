"""Several processes at one confirmation, killed at any moment: the figures are those of one process, opened once."""

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pneumosearch.config import RunSpec
from pneumosearch.confirm import test_access as opening_module
from pneumosearch.confirm.replicates import ConfirmationPlan, plan_confirmation
from pneumosearch.confirm.run import confirm
from pneumosearch.data.protocols import DataSource
from pneumosearch.records.attributes import OWNER
from pneumosearch.records.confirmation import Confirmation
from pneumosearch.search import objective as objective_module
from pneumosearch.search.events import EpochEnded, PartsDone, Repeating, TrialEvent
from pneumosearch.search.leases import identity
from pneumosearch.search.runner import Outcome, open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.confirmations import confirmations
from pneumosearch.storage.store import Store
from pneumosearch.training.loop import TrainingResult
from pneumosearch.workers.work import Limits, Replicates, Work, joined_work
from tests.support.confirming import SPEC, FakeNetwork, FakeResult
from tests.support.fakes import SilentListener, a_history

TWO_EPOCHS = SPEC.model_copy(update={"fixed": {**SPEC.fixed, "epochs": 2}})


def fake_train(run: RunSpec, dataset: Any, folder: Path, on_epoch: Callable[[Any], None], *_: Any) -> TrainingResult:
    """The fold and the zoom make the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    history = a_history(*[0.9 - run.config.zoom / 5 - (run.fold or 0) / 100] * run.config.epochs)
    for epoch in range(1, len(history) + 1):
        on_epoch(history[:epoch])
    return FakeResult(run.config, history, None, 123)


def install(patch: Callable[[Any, str, Any], None]) -> None:
    patch(objective_module, "train", fake_train)
    patch(objective_module, "versions", dict)  # which imports Keras
    patch(objective_module, "learning_curves", lambda history, path, title: path.touch())
    patch(opening_module, "PlainNetwork", FakeNetwork)
    patch(opening_module, "grad_cam", lambda model, pixels, ill: np.zeros(pixels.shape, np.float32))


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch, store: Store, source: DataSource) -> Store:
    """A store with a search of the baseline and three other configurations of two epochs."""
    install(monkeypatch.setattr)
    open_search(Session(store, source, SilentListener(), StopFlag()), TWO_EPOCHS).until(4)
    return store


def trained_here(session: Session, work: Work) -> Outcome:
    return work.train(session, Limits())


class Leader:
    """The command `confirm`, and what it heard and said."""

    def __init__(self, store: Store, source: DataSource, top: int = 1, train: Any = trained_here) -> None:
        self.plan: ConfirmationPlan = plan_confirmation(store.record("tiny"), top, 3)
        self.heard, self.said, self.stop, self.train = list[TrialEvent](), list[str](), StopFlag(), train
        self.session = Session(store, source, self.heard.append, self.stop)

    def run(self) -> Confirmation | None:
        return confirm(self.session, self.plan, self.train, say=self.said.append, warn=self.said.append)


def figures(confirmation: Confirmation | None) -> Any:
    """What a confirmation says, without times and the numbers of its trainings."""
    assert confirmation is not None
    found = confirmation.model_dump(mode="json", exclude={"time"})
    found["naming"].pop("time")
    for replicate in [each for candidate in found["candidates"] for each in candidate["replicates"]]:
        replicate.pop("trial")
    return found


def twin_of(source: DataSource, folder: Path) -> Any:
    """The figures of one process alone."""
    store = Store(f"sqlite:///{folder}/twin.db", folder / "twin")
    open_search(Session(store, source, SilentListener(), StopFlag()), TWO_EPOCHS).until(4)
    return figures(Leader(store, source).run())


def until_killed(leads: bool, url: str, results: Path, source: DataSource, trains: Event) -> None:
    """A process that leads a confirmation, or joins it; it stays after the first epoch of its second replicate."""
    install(setattr)
    store, begun = Store(url, results), set[int]()

    def stay(event: TrialEvent) -> None:
        if isinstance(event, Repeating) and isinstance(event.event, EpochEnded):
            begun.add(event.event.number)
            if len(begun) > 1:
                trains.set()
                time.sleep(600)

    session = Session(store, source, stay, StopFlag())
    if leads:
        confirm(session, plan_confirmation(store.record("tiny"), 1, 3), trained_here, say=print, warn=print)
    else:
        joined_work(store, "tiny-confirm").train(session, Limits())


def kill_one(leads: bool, store: Store, source: DataSource) -> None:
    """Start such a process and kill it while it trains."""
    context = multiprocessing.get_context("spawn")
    trains = context.Event()
    process = context.Process(target=until_killed, args=(leads, store.url, store.results, source, trains), daemon=True)
    process.start()
    assert trains.wait(300)
    process.kill()
    process.join()


def test_killed_leader_and_killed_worker_leave_the_confirmation_of_one_process(
    searched: Store, source: DataSource, tmp_path: Path
) -> None:
    kill_one(True, searched, source)
    assert searched.record("tiny-confirm").count("running") == 1
    kill_one(False, searched, source)
    assert searched.record("tiny").test_openings == ()
    leader = Leader(searched, source)
    assert figures(leader.run()) == twin_of(source, tmp_path)
    record = searched.record("tiny-confirm")
    assert (record.count("complete"), len(record.trials)) == (6, 6)  # what was left behind went on under its number
    assert len(searched.record("tiny").test_openings) == 1
    assert len(confirmations(searched, "tiny")) == 1
    assert leader.said[0].startswith("the baseline and 1 finalist on 3 seeds: 6 replicates, ")


def test_process_that_joins_trains_the_same_replicates_and_opens_nothing(searched: Store, source: DataSource) -> None:
    def joined_first(session: Session, work: Work) -> Outcome:
        there = joined_work(searched, "tiny-confirm")
        assert there == work
        quiet = replace(session, listener=lambda event: None)
        assert there.train(quiet, Limits(trials_a_process=4)) == Outcome(4, "", False)
        assert searched.record("tiny").test_openings == ()
        return trained_here(session, work)

    leader = Leader(searched, source, train=joined_first)
    assert leader.run() is not None
    parts = [event for event in leader.heard if isinstance(event, PartsDone) and event.what == "replicates"]
    assert [(each.done, each.n) for each in parts] == [(4, 6), (5, 6), (5, 6), (6, 6)]
    assert [line.split(":")[0] for line in leader.said[1:]] == ["replicate 5 of 6", "replicate 6 of 6"]
    joined = joined_work(searched, "tiny-confirm")
    assert isinstance(joined, Replicates)
    assert trained_here(Session(searched, source, SilentListener(), StopFlag()), joined) == Outcome(6, "", True)
    assert joined.n_ended(searched) == joined.n == 6


def test_replicate_that_another_plan_left_behind_is_not_trained(searched: Store, source: DataSource) -> None:
    wide = Leader(searched, source, top=2)
    third = wide.plan.candidates[2]

    def stop(event: TrialEvent) -> None:
        if isinstance(event, Repeating) and event.trial == third.number:
            wide.stop.reason = "interrupted"

    wide.session = Session(searched, source, stop, wide.stop)
    assert wide.run() is None
    left = [trial.number for trial in searched.record("tiny-confirm").trials if trial.state == "running"]
    assert len(left) == 1
    assert Leader(searched, source, top=1).run() is not None
    assert searched.record("tiny-confirm").trial(left[0]).state == "running"
    assert wide.plan.runs.keys() > Leader(searched, source, top=1).plan.runs.keys()


def test_second_leader_waits_for_the_one_that_reads_the_test_images(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Leader(searched, source), Leader(searched, source)

    def first_meanwhile(session: Session, work: Work) -> Outcome:
        first.run()
        return trained_here(session, work)

    second.train = first_meanwhile
    assert second.run() == confirmations(searched, "tiny")[0].confirmation
    assert len(confirmations(searched, "tiny")) == 1
    wide, study = Leader(searched, source, top=2), searched.load_study("tiny-confirm")
    OWNER.set(study, identity(psutil.Process(os.getppid())))  # a process that lives
    with monkeypatch.context() as patch:
        patch.setattr(
            "pneumosearch.confirm.opener.time.sleep",
            lambda seconds: setattr(wide.stop, "reason", f"waited {seconds} s"),
        )
        assert wide.run() is None
    assert wide.stop.reason == "waited 0.5 s"
    assert len(searched.record("tiny").test_openings) == 1
    OWNER.set(study, identity(psutil.Process()).model_copy(update={"started": 1.0}))  # one that was killed
    assert figures(Leader(searched, source, top=2).run())["n_openings"] == 2
    assert OWNER.of(searched.load_study("tiny-confirm")) is None
