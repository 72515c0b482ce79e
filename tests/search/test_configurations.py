"""Which configurations are trained: none twice, none that costs too much, and none where there is no other."""

from pathlib import Path
from typing import Any

import pytest

from pneumosearch.config import RunSpec
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import PneumosearchError
from pneumosearch.records import attributes
from pneumosearch.search import objective as objective_module
from pneumosearch.search import runner
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import checked_spec
from pneumosearch.training.loop import TrainingResult
from tests.conftest import TINY
from tests.support.searching import SPEC, fake_train, search

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
def test_limits_that_nothing_meets_stop_the_study(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MAX_PASSED_OVER", 12)  # a hundred take eight times as long
    values = SPEC.model_dump(mode="json") | {"max_parameters": 10}
    with pytest.raises(PneumosearchError, match="12 configurations in a row cost more than the study allows"):
        search(store, source, checked_spec(values, "test")).until(2)
