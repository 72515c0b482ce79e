"""The last rung: the best trials on fresh seeds and folds, by any number of processes, after any interruption."""

import os
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from pneumosearch.config import RunSpec
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import TrainingError
from pneumosearch.records.attributes import BEAT, OWNER, RUN
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search import objective as objective_module
from pneumosearch.search.dry_run import dry_run
from pneumosearch.search.events import Repeating, TrialEvent, TrialStarted
from pneumosearch.search.final_round import planned_repetitions, repeat_finalists
from pneumosearch.search.leases import identity
from pneumosearch.search.runner import Outcome, open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import Finalists, checked_spec
from pneumosearch.training.loop import TrainingResult
from tests.conftest import TINY
from tests.support.fakes import a_history

WANTED = Finalists(top=2, repeats=3)
SPEC = checked_spec(
    {
        "name": "tiny",
        "pruner": "none",
        "finalists": WANTED.model_dump(),
        "fixed": {**TINY, "epochs": 2},
        "space": {"zoom": {"low": 0.0, "high": 0.5}},
    },
    "test",
)


class FakeResult(TrainingResult):
    def save(self, path: Path) -> None:
        path.write_bytes(b"network")


def fake_train(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, *_: Any) -> TrainingResult:
    """On repetition the best of the search is the worst."""
    folder.mkdir(parents=True, exist_ok=True)
    accuracy = 0.9 - run.config.zoom if run.fold is None else 0.4 + run.config.zoom + 0.01 * run.fold
    history = a_history(*[accuracy] * run.config.epochs)
    for epoch in range(1, len(history) + 1):
        on_epoch(history[:epoch])
    return FakeResult(run.config, history, None, 123)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "train", fake_train)


@pytest.fixture
def searched(store: Store, source: DataSource) -> Store:
    assert open_search(Session(store, source, lambda event: None, StopFlag()), SPEC).until(4).done
    return store


class Process:
    """One process of the study, when the search is over."""

    def __init__(self, store: Store, source: DataSource) -> None:
        self.stop, self.heard = StopFlag(), list[TrialEvent]()
        self.session = Session(store, source, self.hear, self.stop)

    def hear(self, event: TrialEvent) -> None:
        self.heard.append(event)

    def repeat(self, **limits: int) -> Outcome:
        return repeat_finalists(self.session, WANTED, "tiny", Outcome(4, "", True), **limits)

    @property
    def begun(self) -> list[tuple[int | None, RunSpec]]:
        events = [event for event in self.heard if isinstance(event, Repeating)]
        return [(each.trial, each.event.run) for each in events if isinstance(each.event, TrialStarted)]


def by_value(record: StudyRecord) -> list[int]:
    return [t.number for t in sorted(record.trials, key=lambda t: -(t.value or 0))]


def test_best_trials_are_repeated_on_fresh_seeds_and_folds_and_their_means_rank_them(
    searched: Store, source: DataSource
) -> None:
    before = searched.record("tiny")
    assert [trial.number for trial in before.ranking()] == by_value(before)
    process = Process(searched, source)
    assert process.repeat() == Outcome(4, "", True)
    first, second, *others = by_value(before)
    assert [number for number, _ in process.begun] == [first, second] * 3
    assert [run.fold for _, run in process.begun] == [0, 0, 1, 1, 2, 2]
    seeds = {run.seed for _, run in process.begun}
    assert len(seeds) == 3
    assert not seeds & {trial.run.seed for trial in before.trials if trial.run}
    after = searched.record("tiny")
    assert [trial.number for trial in after.ranking()] == [second, first, *others]
    zoom = after.trial(second).run
    assert zoom is not None
    assert after.trial(second).repeated == pytest.approx([0.4 + zoom.config.zoom + 0.01 * fold for fold in range(3)])
    assert after.trial(others[0]).repeated == ()
    # Nothing of it is seen by what searches on.
    assert len(searched.load_study("tiny").get_trials()) == len(after.trials) == 4
    again = Process(searched, source)
    assert again.repeat().done
    assert again.begun == []


def test_repetitions_rank_nothing_before_all_are_there(searched: Store, source: DataSource) -> None:
    assert not Process(searched, source).repeat(at_most=5).done
    record = searched.record("tiny")
    assert [trial.number for trial in record.ranking()] == by_value(record)
    assert Process(searched, source).repeat(at_most=5).done
    assert searched.record("tiny").ranking()[0].number == by_value(record)[1]


def test_round_goes_on_after_any_interruption(searched: Store, source: DataSource) -> None:
    stopping = Process(searched, source)

    def hear(event: TrialEvent) -> None:
        if isinstance(event, Repeating) and not isinstance(event.event, TrialStarted):
            stopping.stop.reason = "interrupted"

    stopping.session = Session(searched, source, hear, stopping.stop)
    assert stopping.repeat() == Outcome(4, "interrupted", False)
    study = searched.load_study("tiny-confirm")
    plan = planned_repetitions(searched.record("tiny"), WANTED)
    assert plan is not None
    last = list(plan.runs)[-1]
    study.enqueue_trial({}, user_attrs=study.get_trials()[0].user_attrs | RUN.entry(last))  # and killed right then
    assert Process(searched, source).repeat().done
    runs = [RUN.of(trial) for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE])]
    assert sorted(runs, key=repr) == sorted(plan.runs, key=repr)  # each once


def test_run_that_another_process_trains_is_left_to_it(searched: Store, source: DataSource) -> None:
    plan = planned_repetitions(searched.record("tiny"), WANTED)
    assert plan is not None
    assert not Process(searched, source).repeat(at_most=1).done
    study = searched.load_study("tiny-confirm")
    elsewhere = study.ask()
    RUN.set(elsewhere, list(plan.runs)[1])
    OWNER.set(elsewhere, identity(psutil.Process(os.getppid())))
    BEAT.set(elsewhere, "alive")
    process = Process(searched, source)
    assert not process.repeat(at_most=4).done
    assert [run for _, run in process.begun] == list(plan.runs)[2:]
    study.tell(elsewhere, 0.5)


def test_repetition_that_fails_counts_in_no_mean_and_ends_the_round_for_its_trial(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = by_value(searched.record("tiny"))[:2]
    runs = {number: searched.record("tiny").trial(number).run for number in (first, second)}
    tries: list[RunSpec] = []

    def train(run: RunSpec, *others: Any) -> TrainingResult:
        tries.append(run)
        of_second = runs[second] is not None and run.config == runs[second].config  # type: ignore[union-attr]
        if of_second and run.fold == 0:
            raise TrainingError("epoch 1: loss is nan")
        if of_second and run.fold == 1:
            raise RuntimeError("out of memory")
        return fake_train(run, *others)

    monkeypatch.setattr(objective_module, "train", train)
    assert Process(searched, source).repeat(max_failures=2).done
    record = searched.record("tiny")
    assert len(record.trial(second).repeated) == 1
    assert [trial.number for trial in record.ranking()][:2] == [first, second]  # which failed on no seed
    assert len(tries) == 6 + 1  # what may pass is tried again


def test_dry_run_tells_the_cost_of_the_last_rung() -> None:
    without = SPEC.model_copy(update={"finalists": None})
    planned, plain = dry_run(SPEC, 4, None), dry_run(without, 4, None)
    assert (planned.n_repetitions, plain.n_repetitions) == (6, 0)
    assert planned.as_dict()["n_repetitions"] == 6
    assert dry_run(SPEC, 1, None).n_repetitions == 3  # of the only trial
