"""A study in this process: its baseline, its goal, what it judges by and what it keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.battery import BATTERY, FAMILY_OF_COPY
from pneumosearch.data.families import FAMILIES, trained_families
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import StoreError
from pneumosearch.metrics import battery_score
from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.search import objective as objective_module
from pneumosearch.search import runner as study_module
from pneumosearch.search.runner import train_once
from pneumosearch.search.samplers import derived_seed
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import checked_spec
from pneumosearch.training.loop import OnStep, TrainingResult
from pneumosearch.training.plots import learning_curves
from tests.conftest import TINY
from tests.support.fakes import a_history
from tests.support.searching import SPEC, FakeResult, a_session, outcome, search


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
def test_original_baseline_records_one_opening_of_the_test_set(store: Store, source: DataSource) -> None:
    run = RunSpec(config=TrialConfig.checked({**TINY, "epochs": 2}, "test"), protocol="original")
    for _ in range(2):
        train_once(a_session(store, source), "baseline-original", "baseline", run)
    record = store.record("baseline-original")
    assert len(record.trials) == len(record.test_openings) == 2
    assert record.trials[0].run == run


def test_derived_seeds_differ_and_repeat() -> None:
    seeds = [derived_seed(232, number) for number in range(1000)]
    assert len(set(seeds)) == 1000
    assert seeds[7] == derived_seed(232, 7)


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
