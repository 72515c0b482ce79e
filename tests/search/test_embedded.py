"""The door for people with an Optuna loop of their own."""

import time
from pathlib import Path
from typing import Any

import optuna
import pytest

import pneumosearch
from pneumosearch.config import RunSpec
from pneumosearch.errors import ConfigError
from pneumosearch.records.attributes import HISTORY
from pneumosearch.search import objective as objective_module
from pneumosearch.studyfile import checked_spec
from pneumosearch.training.loop import TrainingResult
from tests.conftest import TINY
from tests.support.searching import fake_train


@pytest.mark.slow
def test_objective_serves_a_plain_optuna_study_in_memory(phantoms: Path, tmp_path: Path) -> None:
    space = {"zoom": {"low": 0.0, "high": 0.5}}
    spec = checked_spec({"fixed": {**TINY, "epochs": 2}, "space": space}, "test")
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, direction="maximize", pruner=optuna.pruners.NopPruner())
    study.enqueue_trial(spec.search_space().baseline())
    study.optimize(pneumosearch.objective_for(phantoms, spec, tmp_path / "results"), n_trials=2)
    first, second = study.trials
    assert first.params == {"zoom": 0.3}
    assert [trial.user_attrs["run"]["seed"] for trial in study.trials] == [232, 233]
    assert first.value in [epoch.validation_accuracy for epoch in HISTORY.of(first)]
    assert sorted(second.intermediate_values) == [1, 2]
    assert not list((tmp_path / "results" / "checkpoints").glob("*/*"))
    assert not list(tmp_path.rglob("*.db"))
    assert optuna.artifacts.get_all_artifact_meta(second, storage=storage)


def test_study_of_the_wrong_direction_is_refused_in_one_line(phantoms: Path, tmp_path: Path) -> None:
    objective = pneumosearch.objective_for(phantoms, None, tmp_path / "results")
    for study in (optuna.create_study(study_name="mine"), optuna.create_study(directions=["maximize", "minimize"])):
        with pytest.raises(ConfigError, match=r"worst_family wants optuna.create_study\(direction='maximize'\)"):
            study.optimize(objective, n_trials=1)


def test_threads_train_one_after_the_other(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[int] = []
    inside: list[int] = []

    def slow_train(run: RunSpec, *others: Any) -> TrainingResult:
        inside.append(run.seed)
        at_once.append(len(inside))
        time.sleep(0.1)
        inside.remove(run.seed)
        return fake_train(run, *others)

    monkeypatch.setattr(objective_module, "train", slow_train)
    spec = checked_spec({"fixed": {**TINY, "epochs": 2}, "space": {"zoom": {"low": 0.0, "high": 0.5}}}, "test")
    study = optuna.create_study(direction="maximize")
    study.optimize(pneumosearch.objective_for(phantoms, spec, tmp_path / "results"), n_trials=4, n_jobs=2)
    assert at_once == [1, 1, 1, 1]
    assert all(trial.value is not None for trial in study.trials)


def test_objective_of_a_bad_study_file_is_refused(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such study file"):
        pneumosearch.objective_for(phantoms, tmp_path / "none.toml")


def test_package_has_no_other_lazy_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = pneumosearch.nonsense
