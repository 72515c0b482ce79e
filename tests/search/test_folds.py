"""Studies of protocol "folds": a trial trains once for each fold, and the mean over them judges it."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pneumosearch.config import RunSpec
from pneumosearch.confirm.replicates import plan_confirmation
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import TrainingError
from pneumosearch.inference.export import what_network
from pneumosearch.records.epoch import History, kept_epoch
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search import objective as objective_module
from pneumosearch.search.dry_run import dry_run
from pneumosearch.search.events import EpochEnded, FoldStarted, TrialEvent, TrialStarted
from pneumosearch.search.rerun import rerun_trial
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec, checked_spec
from pneumosearch.training.loop import TrainingResult, train
from tests.conftest import TINY
from tests.support.fakes import a_history, a_study, a_trial

VALUES: dict[str, Any] = {
    "name": "tiny",
    "pruner": "none",
    "protocol": "folds",
    "folds": 3,
    "fixed": {**TINY, "epochs": 2},
    "space": {"zoom": {"low": 0.0, "high": 0.5}},
}
SPEC = checked_spec(VALUES, "test")


@dataclass(frozen=True)
class FoldResult(TrainingResult):
    fold: int | None = None

    def save(self, path: Path) -> None:
        path.write_bytes(f"network of fold {self.fold}".encode())


def epochs_of(run: RunSpec) -> History:
    """Epochs whose accuracy depends on zoom, on the fold and on its seed."""
    accuracy = 0.9 - run.config.zoom - 0.05 * (run.fold or 0) - run.seed % 7 * 0.001
    return a_history(*[accuracy + 0.01 * epoch for epoch in range(run.config.epochs)])


def fake_train(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, *_: Any) -> TrainingResult:
    folder.mkdir(parents=True, exist_ok=True)
    history = epochs_of(run)
    for epoch in range(1, len(history) + 1):
        on_epoch(history[:epoch])
    return FoldResult(run.config, history, None, 123, run.fold)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "train", fake_train)


@dataclass
class Process:
    """A process of the study, which stops after so many epochs that are new to the store."""

    store: Store
    source: DataSource
    spec: StudySpec = SPEC
    stops_after: int = -1

    def __post_init__(self) -> None:
        self.heard, self.stop = list[TrialEvent](), StopFlag()

    def __call__(self, event: TrialEvent) -> None:
        self.heard.append(event)
        if isinstance(event, EpochEnded) and len(self.epochs) == self.stops_after:
            self.stop.reason = "interrupted"

    @property
    def epochs(self) -> set[tuple[int, int, int]]:
        """{(trial, fold, epoch)}."""
        return {(e.number, e.fold, len(e.history)) for e in self.heard if isinstance(e, EpochEnded)}

    @property
    def begun(self) -> list[tuple[int, int | None]]:
        """(trial, fold) of each training that a process began or went on with; the first fold has none."""
        events = [e for e in self.heard if isinstance(e, TrialStarted | FoldStarted)]
        return [(e.number, e.run.fold) for e in events]

    def search(self, n_trials: int) -> StudyRecord:
        session = Session(self.store, self.source, self, self.stop)
        open_search(session, self.spec).until(n_trials)
        return self.store.record("tiny")


def essence(record: StudyRecord) -> list[Any]:
    histories = [[[e.numbers() for e in history] for history in trial.histories] for trial in record.trials]
    return [(t.number, t.state, t.value, t.run, all_) for t, all_ in zip(record.trials, histories, strict=True)]


def other_store(folder: Path) -> Store:
    return Store(f"sqlite:///{folder}/twin.db", folder / "twin")


@pytest.mark.usefixtures("fake")
def test_trial_trains_once_for_each_fold_and_the_mean_judges_it(store: Store, source: DataSource) -> None:
    process = Process(store, source)
    record = process.search(3)
    assert process.begun == [(number, fold) for number in range(3) for fold in (None, 1, 2)]
    for trial in record.trials:
        assert trial.run is not None
        assert (trial.state, trial.run.seed, trial.n_epochs) == ("complete", 232 + trial.number, 3 * 2)
        expected = [epochs_of(training) for training in trial.run.trainings]
        assert list(trial.histories) == expected
        kept = [kept_epoch(history, "best").evaluation("accuracy") for history in expected]
        assert trial.value == pytest.approx(statistics.fmean(kept))
        assert trial.seconds == 6.0
        assert trial.judged is not None
        assert trial.judged.validation_accuracy == trial.value
    seeds = [training.seed for trial in record.trials if trial.run for training in trial.run.trainings]
    assert len(set(seeds)) == 9
    assert [trial.value for trial in record.ranking()] == sorted((t.value or 0 for t in record.trials), reverse=True)
    assert (record.n_folds, record.n_judging) == (3, record.data.n_train + record.data.n_evaluation)
    assert not store.states("tiny")


@pytest.mark.usefixtures("fake")
def test_pruner_sees_the_first_fold_and_a_pruned_trial_trains_on_no_other(store: Store, source: DataSource) -> None:
    spec = checked_spec({**VALUES, "pruner": "promote", "reduction_factor": 2}, "test")
    process = Process(store, source, spec)
    record = process.search(8)
    pruned = [trial for trial in record.trials if trial.state == "pruned"]
    assert pruned
    assert record.count("complete") >= 2
    assert all((len(trial.history), trial.folds, trial.value) == (1, (), None) for trial in pruned)
    numbers = {number for trial in pruned for number in (trial.number, *trial.earlier)}
    assert numbers.isdisjoint(number for number, fold in process.begun if fold)
    for trial in store.load_study("tiny").get_trials(deepcopy=False):
        assert set(trial.intermediate_values) <= {1, 2}
    complete = [trial for trial in record.trials if trial.state == "complete"]
    assert all(len(trial.histories) == 3 for trial in complete)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("epochs", [2, 3, 4, 6, 7, 11])
def test_study_that_stops_anywhere_goes_on_with_the_fold_where_it_was(
    store: Store, source: DataSource, tmp_path: Path, epochs: int
) -> None:
    Process(store, source, stops_after=epochs).search(2)
    second = Process(store, source)
    record = second.search(2)
    twin = Process(other_store(tmp_path), source)
    assert essence(record) == essence(twin.search(2))
    assert len(twin.epochs) == 12
    done_with = sorted(twin.epochs)[: 2 * ((epochs - 1) // 2)]  # the folds before that in which it stopped
    assert second.epochs.isdisjoint(done_with)


@pytest.mark.usefixtures("fake")
def test_network_that_is_kept_is_that_of_the_first_fold(store: Store, source: DataSource) -> None:
    Process(store, source).search(2)
    for number in range(2):
        assert store.network("tiny", number) == b"network of fold 0"
        assert what_network(store, "tiny", number) == "the network of the first of 3 folds"


def test_loss_that_is_not_finite_in_a_fold_fails_the_trial_and_names_the_fold(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sometimes(run: RunSpec, *arguments: Any) -> TrainingResult:
        if run.fold == 2 and run.config.zoom != 0.3:
            raise TrainingError("epoch 1: training loss is nan")
        return fake_train(run, *arguments)

    monkeypatch.setattr(objective_module, "train", sometimes)
    record = Process(store, source).search(2)
    assert [trial.state for trial in record.trials] == ["complete", "failed"]
    assert record.trials[1].failure == "fold 3 of 3: epoch 1: training loss is nan"
    assert record.trials[1].diverged


@pytest.mark.usefixtures("fake")
def test_repeated_configuration_has_the_folds_of_the_earlier_trial(store: Store, source: DataSource) -> None:
    values = {**VALUES, "sampler": "random", "space": {"batch_size": {"choices": [16, 32]}}}
    record = Process(store, source, checked_spec(values, "test")).search(5)
    copies = [trial for trial in record.trials if trial.duplicate_of is not None]
    assert copies
    for copy in copies:
        earlier = record.trials[copy.duplicate_of or 0]
        assert (copy.value, copy.seconds, len(copy.folds)) == (earlier.value, 0.0, 2)
        assert [e.numbers() for h in copy.folds for e in h] == [e.numbers() for h in earlier.folds for e in h]


@pytest.mark.usefixtures("fake")
def test_floor_holds_the_mean_over_the_folds(store: Store, source: DataSource) -> None:
    record = Process(store, source).search(1)
    baseline = record.trials[0]
    assert baseline.kept is not None
    assert baseline.judged is not None
    assert (baseline.kept.validation_auc or 0) > (baseline.judged.validation_auc or 0)
    between = ((baseline.kept.validation_auc or 0) + (baseline.judged.validation_auc or 0)) / 2
    assert baseline.below({"auc": between})
    assert not baseline.below({"auc": baseline.judged.validation_auc or 0})


@pytest.mark.usefixtures("fake")
def test_study_can_be_confirmed_on_seeds_that_no_fold_has_seen(store: Store, source: DataSource) -> None:
    record = Process(store, source).search(3)
    runs = plan_confirmation(record, 1, 3).runs
    assert [(run.protocol, run.fold, run.n_folds) for run in runs][::2] == [("holdout", n, 5) for n in range(3)]
    searched = {training.seed for trial in record.trials if trial.run for training in trial.run.trainings}
    assert searched.isdisjoint(run.seed for run in runs)


def test_plan_counts_the_trainings_on_all_folds() -> None:
    earlier = a_study(a_trial(0, 0.9, 0.9))
    single, folds = (
        dry_run(checked_spec({"protocol": protocol}, "test"), 10, earlier) for protocol in ("holdout", "folds")
    )
    assert (single.n_trainings, folds.n_trainings) == (10, 50)
    assert folds.as_dict()["n_trainings"] == 50
    assert single.seconds is not None
    assert folds.seconds == pytest.approx(5 * single.seconds)


@pytest.mark.slow
def test_killed_fold_goes_on_on_another_machine_and_the_trial_reruns_to_the_last_digit(
    source: DataSource, tmp_path: Path
) -> None:
    def machine(name: str) -> Store:
        made = Store(f"sqlite:///{tmp_path}/store.db", tmp_path / name, artifacts=str(tmp_path / "shared"))
        assert made.shared_artifacts is not None
        made.shared_artifacts.make()
        return made

    spec = checked_spec({**VALUES, "folds": 2}, "test")
    Process(machine("first"), source, spec, stops_after=3).search(1)
    trained = Counting(train)
    second = Process(machine("second"), source, spec)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(objective_module, "train", trained)
        record = second.search(1)
    assert trained.first_epochs == [1, 2]  # the second fold goes on after epoch 1; then the first is only loaded
    assert essence(record) == essence(Process(other_store(tmp_path), source, spec).search(1))
    comparison = rerun_trial(Session(second.store, source, second, StopFlag()), record, 0)
    assert comparison is not None
    assert comparison.identical
    assert comparison.verdict() == "trial 0 of 'tiny', 4 epochs: equal to the last digit"
    altered = comparison.again.folds[0][0].model_copy(update={"train_loss": 9.0})
    again = comparison.again.model_copy(update={"folds": ((altered, *comparison.again.folds[0][1:]),)})
    differs = type(comparison)(comparison.study, comparison.original, again).first_difference
    assert differs is not None
    assert differs.startswith("fold 2, epoch 1: train_loss")


class Counting:
    """Trains, and remembers how many epochs each training had when it was first heard of."""

    def __init__(self, train: Callable[..., TrainingResult]) -> None:
        self.train, self.first_epochs = train, list[int]()

    def __call__(self, run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, *others: Any) -> TrainingResult:
        heard = list[int]()

        def listening(history: History) -> None:
            heard.append(len(history))
            on_epoch(history)

        result = self.train(run, dataset, folder, listening, *others)
        self.first_epochs.append(heard[0])
        return result
