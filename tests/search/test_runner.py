import errno
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytest
from sqlalchemy.exc import OperationalError

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.battery import BATTERY, FAMILY_OF_COPY
from pneumosearch.data.families import FAMILIES, trained_families
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import PneumosearchError, StoreError, TrainingError
from pneumosearch.metrics import battery_score
from pneumosearch.records import attributes
from pneumosearch.records.attributes import OWNER
from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search import objective as objective_module
from pneumosearch.search import runner as study_module
from pneumosearch.search.leases import identity
from pneumosearch.search.rerun import rerun_trial
from pneumosearch.search.runner import StudyRun, open_search, train_once
from pneumosearch.search.samplers import derived_seed
from pneumosearch.search.session import Interrupted, Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec, checked_spec
from pneumosearch.training.loop import OnStep, Step, TrainingResult
from pneumosearch.training.plots import learning_curves
from tests.conftest import TINY
from tests.support.fakes import SilentListener, a_history, trial_id

SPEC = checked_spec(
    {
        "name": "tiny",
        "pruner": "none",
        "fixed": {**TINY, "epochs": 2},
        "space": {"zoom": {"low": 0.0, "high": 0.5}, "batch_size": {"choices": [16, 32]}},
    },
    "test",
)


class FakeResult(TrainingResult):
    def save(self, path: Path) -> None:
        path.write_bytes(b"network")


def fake_train(
    run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, on_step: OnStep | None = None
) -> TrainingResult:
    """Epochs of one step whose accuracy depends on zoom alone; no network."""
    folder.mkdir(parents=True, exist_ok=True)
    history = a_history(*[0.9 - run.config.zoom + 0.01 * epoch for epoch in range(run.config.epochs)])
    for epoch in range(1, len(history) + 1):
        if on_step:
            on_step(Step(epoch, 1, 1, 32, 0.5))
        on_epoch(history[:epoch])
    return FakeResult(run.config, history, None, 123)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures of the learning curves, which take longer than the rest of a trial with a fake training."""
    monkeypatch.setattr(objective_module, "learning_curves", lambda history, path, title: path.touch())


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "train", fake_train)


def a_session(store: Store, source: DataSource, stop: StopFlag | None = None) -> Session:
    return Session(store, source, SilentListener(), stop or StopFlag())


def search(store: Store, source: DataSource, spec: StudySpec = SPEC, stop: StopFlag | None = None) -> StudyRun:
    return open_search(a_session(store, source, stop), spec)


def outcome(record: StudyRecord) -> list[Any]:
    return [(t.number, t.state, t.value, t.run, t.failure, [e.numbers() for e in t.history]) for t in record.trials]


@pytest.mark.usefixtures("fake")
def test_auto_means_the_precision_that_the_study_began_with(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPEC.model_copy(update={"precision": "auto"})
    for of_this_machine, of_the_study in (("bfloat16", "bfloat16"), ("float32", "bfloat16")):
        here = {"auto": of_this_machine, "bfloat16": "bfloat16", "float32": "float32"}
        monkeypatch.setattr(study_module, "resolved_precision", here.__getitem__)
        run = search(store, source, spec)
        assert run.objective.spec.precision == of_the_study
        assert store.record("tiny").spec["precision"] == of_the_study
    with pytest.raises(StoreError, match="started with another precision"):
        search(store, source, SPEC.model_copy(update={"precision": "float32"}))


@pytest.mark.usefixtures("fake")
def test_study_of_before_others_could_be_set_goes_on_only_without_them(store: Store, source: DataSource) -> None:
    run = search(store, source)
    stored = run.study.user_attrs["spec"]
    assert stored.pop("others") == {}
    run.study.set_user_attr("spec", stored)
    assert search(store, source).until(1).finished == 1
    precise = SPEC.model_copy(update={"others": {"batch_norm_statistics": "precise"}})
    with pytest.raises(StoreError, match="another others.batch_norm_statistics \\(absent, now 'precise'\\)"):
        search(store, source, precise)


@pytest.mark.usefixtures("fake")
def test_first_trial_is_the_baseline_and_the_rest_is_searched(store: Store, source: DataSource) -> None:
    run = search(store, source)
    assert run.until(12).finished == 12
    record = store.record("tiny")
    configs = [trial.run.config for trial in record.trials if trial.run]
    assert configs[0] == TrialConfig.checked({**TINY, "epochs": 2}, "test")
    assert [trial.run.seed for trial in record.trials if trial.run] == list(range(232, 244))
    assert len({config.zoom for config in configs}) == 12
    assert record.count("complete") == 12


@pytest.mark.usefixtures("fake")
def test_study_goes_on_to_the_number_asked_for_in_all_and_repeats_with_its_seed(
    store: Store, source: DataSource, tmp_path: Path
) -> None:
    for n in (1, 4, 4, 13):
        assert search(store, source).until(n).finished == n
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    search(twin, source).until(13)
    assert outcome(store.record("tiny")) == outcome(twin.record("tiny"))


FEW = checked_spec(
    {
        "name": "tiny",
        "pruner": "none",
        "sampler": "random",
        "fixed": {**TINY, "epochs": 2},
        "space": {"batch_size": {"choices": [16, 32]}},
    },
    "test",
)


def test_configuration_is_not_trained_twice_unless_asked_for(
    store: Store, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[RunSpec] = []

    def counted(run: RunSpec, *others: Any) -> TrainingResult:
        trained.append(run)
        return fake_train(run, *others)

    monkeypatch.setattr(objective_module, "train", counted)
    search(store, source, FEW).until(8)
    record = store.record("tiny")
    assert record.count("complete") == 8
    assert len(trained) == 2
    copies = [trial for trial in record.trials if trial.duplicate_of is not None]
    assert len(copies) == 6
    for copy in copies:
        earlier = record.trials[copy.duplicate_of or 0]
        assert (copy.run, copy.value, copy.seconds) == (earlier.run, earlier.value, 0.0)
        assert [e.numbers() for e in copy.history] == [e.numbers() for e in earlier.history]
    assert len(record.ranking()) == 2
    again = Store(f"sqlite:///{tmp_path}/again.db", tmp_path / "again")
    search(again, source, FEW.model_copy(update={"repeat_duplicates": True})).until(6)
    assert len(trained) == 2 + 6


@pytest.mark.usefixtures("fake")
def test_configuration_that_an_earlier_version_trained_is_not_trained_again(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = attributes.Attribute.stored

    def before_gamma_came(self: Any, owner: Any) -> Any:
        value = stored(self, owner)
        if self is attributes.RUN:
            return {**value, "config": {key: each for key, each in value["config"].items() if key != "gamma"}}
        return value

    monkeypatch.setattr(attributes.Attribute, "stored", before_gamma_came)
    search(store, source, FEW).until(8)
    assert sum(trial.duplicate_of is not None for trial in store.record("tiny").trials) == 6


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("pruner", ["none", "promote"])
def test_sampler_that_has_nothing_more_to_propose_ends_the_study(store: Store, source: DataSource, pruner: str) -> None:
    values = FEW.model_dump(mode="json") | {"sampler": "optuna.samplers:BruteForceSampler", "pruner": pruner}
    values["space"] = {"batch_size": {"choices": [16, 32]}, "zoom": {"choices": [0.0, 0.3]}}
    spec = checked_spec(values, "test")
    for _ in range(2):  # the second time it has nothing to do
        result = search(store, source, spec).until(50)
        assert (result.finished, result.done) == (4, True)
        assert result.stopped == "sampler optuna.samplers:BruteForceSampler has nothing more to propose"
    record = store.record("tiny")
    assert len({trial.run.config for trial in record.trials if trial.run}) == len(record.trials) == 4
    assert search(store, source, spec).until(4).stopped == ""


@pytest.mark.usefixtures("fake")
def test_configurations_over_the_limit_are_passed_over_and_not_counted(store: Store, source: DataSource) -> None:
    values = SPEC.model_dump(mode="json") | {"max_parameters": 50_000}
    values["space"] = {"filters_5": {"choices": [128, 256, 768]}, "zoom": {"low": 0.0, "high": 0.5}}
    assert search(store, source, checked_spec(values, "test")).until(8).finished == 8
    record = store.record("tiny")
    over = [trial for trial in record.trials if trial.state == "passed over"]
    assert len(record.trials) == 8 + len(over)
    assert over
    assert {trial.run.config.filters_5 for trial in over if trial.run} == {768}
    assert "at most 50,000 allowed" in str(over[0].passed_over)
    assert all(trial.run.config.filters_5 < 768 for trial in record.trials if trial.state == "complete" and trial.run)


@pytest.mark.usefixtures("fake")
def test_limits_that_nothing_meets_stop_the_study(store: Store, source: DataSource) -> None:
    values = SPEC.model_dump(mode="json") | {"max_parameters": 10}
    with pytest.raises(PneumosearchError, match="100 configurations in a row cost more than the study allows"):
        search(store, source, checked_spec(values, "test")).until(2)


@pytest.mark.usefixtures("fake")
def test_floor_is_kept_with_the_study_and_a_study_without_goes_on_only_without(
    store: Store, source: DataSource
) -> None:
    with_floor = SPEC.model_copy(update={"floor": {"auc": 0.8}})
    run = search(store, source)
    stored = run.study.user_attrs["spec"]
    assert stored.pop("floor") is None
    run.study.set_user_attr("spec", stored)  # as of an earlier version
    assert search(store, source).until(1).finished == 1
    with pytest.raises(StoreError, match="started with another floor"):
        search(store, source, with_floor)
    other = with_floor.model_copy(update={"name": "floored"})
    search(store, source, other)
    assert store.record("floored").floor == {"auc": 0.8}
    with pytest.raises(StoreError, match=r"started with another floor.auc \(0.8, now 0.9\)"):
        search(store, source, other.model_copy(update={"floor": {"auc": 0.9}}))


@pytest.mark.usefixtures("fake")
def test_networks_of_trials_that_reach_the_floor_are_kept_before_others(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "KEPT_MODELS", 1)
    trials = ((0.5, 0.5), (0.9, 0.9), (0.8, 0.99), (0.95, 0.6))  # by number: accuracy, AUC

    def train(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, on_step: OnStep | None = None) -> TrainingResult:
        folder.mkdir(parents=True, exist_ok=True)
        accuracy, auc = trials[run.seed - SPEC.seed]
        history = tuple(e.model_copy(update={"validation_auc": auc}) for e in a_history(accuracy))
        on_epoch(history)
        return FakeResult(run.config, history, None, 123)

    monkeypatch.setattr(objective_module, "train", train)
    spec = SPEC.model_copy(update={"floor": {"auc": 0.95}, "repeat_duplicates": True})
    search(store, source, spec).until(4)
    record = store.record("tiny")
    assert [trial.number for trial in record.ranking()] == [2, 3, 1, 0]
    kept = [trial.number for trial in record.trials if store.network("tiny", trial.number) is not None]
    assert kept == [0, 1, 2]  # the baseline, and each that was the best so far: not trial 3


@pytest.mark.usefixtures("fake")
def test_picture_and_weights_become_artifacts_and_checkpoints_go(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "learning_curves", learning_curves)
    run = search(store, source)
    run.until(1)
    trial = run.study.get_trials()[0]
    metas = optuna.artifacts.get_all_artifact_meta(trial, storage=store.storage)
    assert sorted(meta.filename for meta in metas) == ["learning-curves.png", "trial-0.keras"]
    picture = next(meta for meta in metas if meta.mimetype == "image/png")
    with store.artifacts.open_reader(picture.artifact_id) as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert not store.checkpoint_folder("tiny", 0).exists()


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
def test_median_pruner_stops_bad_trials_and_never_after_the_last_epoch(store: Store, source: DataSource) -> None:
    spec = SPEC.model_copy(update={"pruner": "median", "fixed": {**SPEC.fixed, "epochs": 8}})
    search(store, source, spec).until(25)
    record = store.record("tiny")
    pruned = [trial for trial in record.trials if trial.state == "pruned"]
    assert len(pruned) >= 3
    assert all(len(trial.history) < 8 and trial.value is None for trial in pruned)
    best = max(trial.run.config.zoom for trial in record.ranking()[:3] if trial.run)
    assert all(trial.run.config.zoom > best for trial in pruned if trial.run)


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


@pytest.mark.slow
def test_search_under_stress_is_judged_by_changed_copies_and_each_trial_reruns(
    store: Store, source: DataSource
) -> None:
    values = {**SPEC.model_dump(mode="json"), "metric": "stress_auc", "prune_by": "stress_auc"}
    # With moving averages two epochs of so small a network may call all images ill: each AUC is 0.5 then.
    values["fixed"] = {**values["fixed"], "batch_norm_statistics": "precise"}
    search(store, source, checked_spec({**values, "protocol": "brightness"}, "test")).until(2)
    record = store.record("tiny")
    for trial in record.trials:
        assert trial.kept is not None
        assert trial.value == trial.kept.validation_stress_auc
        assert any(epoch.validation_stress_auc != epoch.validation_auc for epoch in trial.history)
        assert all(
            0.0 <= epoch.evaluation("stress_worst") <= epoch.evaluation("stress_balanced_accuracy") <= 1.0
            for epoch in trial.history
        )
    comparison = rerun_trial(a_session(store, source), record, 1)
    assert comparison is not None
    assert comparison.identical


@pytest.mark.slow
def test_pruner_may_see_precise_batch_normalisation_and_each_trial_reruns(store: Store, source: DataSource) -> None:
    values = {**SPEC.model_dump(mode="json"), "prune_by": "precise_auc"}
    search(store, source, checked_spec(values, "test")).until(2)
    record = store.record("tiny")
    reported = [trial.intermediate_values for trial in store.load_study("tiny").get_trials(deepcopy=False)]
    assert reported == [{e.epoch: e.validation_precise_auc for e in trial.history} for trial in record.trials]
    comparison = rerun_trial(a_session(store, source), record, 1)
    assert comparison is not None
    assert comparison.identical


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


@pytest.mark.usefixtures("fake")
def test_original_baseline_records_one_opening_of_the_test_set(store: Store, source: DataSource) -> None:
    run = RunSpec(config=TrialConfig.checked({**TINY, "epochs": 2}, "test"), protocol="original")
    for _ in range(2):
        train_once(a_session(store, source), "baseline-original", "baseline", run)
    record = store.record("baseline-original")
    assert len(record.trials) == len(record.test_openings) == 2
    assert record.trials[0].run == run


def test_rerun_repeats_to_the_last_digit_and_says_when_not(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(store, source).until(2)
    record = store.record("tiny")
    again = rerun_trial(a_session(store, source), record, 1)
    assert again is not None
    assert again.identical
    assert "equal to the last digit" in again.verdict()
    assert store.record("tiny-reruns").trials[0].run == record.trials[1].run
    monkeypatch.setattr(objective_module, "train", fake_train)
    differing = rerun_trial(a_session(store, source), record, 1)
    assert differing is not None
    assert "epoch 1: " in differing.verdict()
    with pytest.raises(StoreError, match="no trial 9"):
        rerun_trial(a_session(store, source), record, 9)


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


def test_derived_seeds_differ_and_repeat() -> None:
    seeds = [derived_seed(232, number) for number in range(1000)]
    assert len(set(seeds)) == 1000
    assert seeds[7] == derived_seed(232, 7)


def test_interrupted_is_no_failure() -> None:
    assert not issubclass(Interrupted, PneumosearchError)
    assert threading.current_thread() is threading.main_thread()


def test_search_by_unseen_families_ranks_by_them_and_keeps_the_figures_of_each_family(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, on_step: Any = None) -> TrainingResult:
        """All is right under the family that trains, and more than a little zoom calls all ill under the others."""
        folder.mkdir(parents=True, exist_ok=True)
        zoom, n = run.config.zoom, len(dataset.battery.labels) // len(BATTERY)
        labels = dataset.battery.labels[:n]
        right, ill = np.where(labels > 0, 0.6, 0.4), np.full(n, 0.9)
        p = np.concatenate([ill if zoom > 0.2 and copy.family != "geometry" else right for copy in BATTERY.values()])
        scores = battery_score(labels, p, FAMILY_OF_COPY, trained_families(run.config))
        figures = a_history(0.9)[0].model_dump(exclude_none=True) | scores.as_dict("validation")
        history = (EpochMetrics.model_validate(figures),)
        on_epoch(history)
        return FakeResult(run.config, history, None, 123)

    monkeypatch.setattr(objective_module, "train", judged)
    values = {**SPEC.model_dump(mode="json", exclude={"prune_by"}), "metric": "unseen_shift_accuracy"}
    search(store, source, checked_spec(values, "test")).until(6)
    record = store.record("tiny")
    assert record.trials[0].run is not None
    assert record.trials[0].run.battery
    for trial in record.trials:
        assert trial.kept is not None
        assert trial.run is not None
        assert trial.value == trial.kept.validation_unseen_shift_accuracy == (0.5 if trial.run.config.zoom > 0.2 else 1)
        assert set(trial.kept.families or {}) == set(FAMILIES)
        assert (trial.kept.families or {})["geometry"].accuracy == 1.0
    ranks = [trial.value for trial in record.ranking()]
    assert ranks == sorted(ranks, key=lambda value: -(value or 0.0))
