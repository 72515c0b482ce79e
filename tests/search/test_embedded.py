"""The door for people with an Optuna loop of their own."""

from pathlib import Path

import optuna
import pytest

import pneumosearch
from pneumosearch.errors import ConfigError
from pneumosearch.studyfile import checked_spec
from tests.conftest import TINY


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
    assert first.value in [epoch["validation_accuracy"] for epoch in first.user_attrs["history"]]
    assert sorted(second.intermediate_values) == [1, 2]
    assert not list((tmp_path / "results" / "checkpoints").glob("*/*"))
    assert not list(tmp_path.rglob("*.db"))
    assert optuna.artifacts.get_all_artifact_meta(second, storage=storage)


def test_objective_of_a_bad_study_file_is_refused(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such study file"):
        pneumosearch.objective_for(phantoms, tmp_path / "none.toml")


def test_package_has_no_other_lazy_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = pneumosearch.nonsense
