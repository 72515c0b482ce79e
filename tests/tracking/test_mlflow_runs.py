"""Runs of MLflow, read back by its own client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pneumosearch.storage.store import Store
from pneumosearch.tracking import mlflow_runs
from pneumosearch.tracking.mlflow_runs import MlflowRuns
from tests.support.fakes import a_trial
from tests.support.logged import begun_study

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow database, which takes a second to make; studies of all tests go there."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts below the present folder
    client = MlflowClient(tracking_uri=database)
    yield client
    found = client.get_experiment_by_name("tiny")
    if found:  # one of this name can be made again only after the old one has another
        client.rename_experiment(found.experiment_id, f"tiny {tmp_path}")


def runs_of(client: Any) -> dict[str, Any]:
    experiment = client.get_experiment_by_name("tiny")
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def test_trial_has_parameters_epochs_final_figures_and_artifacts(client: Any, database: str, store: Store) -> None:
    runs = MlflowRuns(database, begun_study(store))
    runs.write(a_trial(1, 0.7, state="running", zoom=0.25))
    assert runs_of(client)["trial 1"].info.status == "RUNNING"
    runs.write(a_trial(1, 0.7, 0.9, zoom=0.25))
    run = runs_of(client)["trial 1"]
    assert (run.data.params["zoom"], run.data.params["seed"], run.data.params["protocol"]) == ("0.25", "1", "holdout")
    history = client.get_metric_history(run.info.run_id, "validation/accuracy")
    assert [(each.step, each.value) for each in history] == [(1, 0.7), (2, 0.9)]
    assert (run.data.metrics["final/value"], run.info.status) == (0.9, "FINISHED")
    assert run.data.tags["pneumosearch.state"] == "complete"
    assert run.data.tags["pneumosearch.changes"] == "zoom=0.25"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["learning-curves.png", "trial-1.keras"]


def test_another_process_goes_on_in_the_same_runs(client: Any, database: str, store: Store) -> None:
    study = begun_study(store)
    MlflowRuns(database, study).write(a_trial(0, 0.6, state="running"))
    for _ in range(2):
        later = MlflowRuns(database, study)
        later.write(a_trial(0, 0.6, 0.7, state="failed"))
        later.write(a_trial(1, 0.5, state="pruned"))
    runs = runs_of(client)
    assert len(client.get_metric_history(runs["trial 0"].info.run_id, "train/loss")) == 2
    assert [runs[f"trial {n}"].info.status for n in (0, 1)] == ["FAILED", "FINISHED"]


def test_new_study_of_the_same_name_has_runs_of_its_own(
    client: Any, database: str, store: Store, tmp_path: Path
) -> None:
    MlflowRuns(database, begun_study(store, 1)).write(a_trial(0, 0.6))
    another = begun_study(Store(f"sqlite:///{tmp_path}/another.db", tmp_path / "another"), 1)
    object.__setattr__(another, "key", "tiny-20200101-000000")  # as if it had begun at another second
    MlflowRuns(database, another).write(a_trial(0, 0.6, 0.7))
    experiment = client.get_experiment_by_name("tiny")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_large_network_stays_in_the_store(
    client: Any, database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_runs, "MAX_NETWORK", len(b"a network") - 1)
    MlflowRuns(database, begun_study(store, 1)).write(a_trial(0, 0.6))
    [run] = runs_of(client).values()
    assert "trial-0.keras" not in [file.path for file in client.list_artifacts(run.info.run_id)]


def test_long_history_is_sent_in_several_requests(client: Any, database: str, store: Store) -> None:
    MlflowRuns(database, begun_study(store, 1)).write(a_trial(0, *[0.5 + i / 200 for i in range(70)]))
    [run] = runs_of(client).values()
    steps = [each.step for each in client.get_metric_history(run.info.run_id, "learning_rate")]
    assert steps == list(range(1, 71))
