"""The store in a real PostgreSQL server, which is stopped and started in the middle of studies."""

import json
import multiprocessing
import threading
import time
from pathlib import Path
from queue import Empty

import optuna
import pytest
import typer
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from typer.testing import CliRunner

from benchmarks.storages import storages
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.errors import StoreError
from pneumosearch.records.attributes import HISTORY
from pneumosearch.report.summary import study_summary
from pneumosearch.storage.retry import MARK, ConnectionLost
from pneumosearch.storage.store import Store, trial_record
from pneumosearch.storage.urls import MAX_CONNECTIONS
from tests.cli.test_commands import TINY_STUDY
from tests.support.fakes import SPEC, a_description, a_history
from tests.support.postgres import PostgresServer
from tests.support.terminal import Terminal

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pneumosearch'"


def fake_study(store: Store, n_trials: int, seconds: float = 0.0) -> optuna.Study:
    """Go on with a study of fake trainings until it has so many trials."""
    study = store.open_study("fake", "search", "accuracy", SPEC, a_description())
    for number in range(len(study.get_trials(deepcopy=False)), n_trials):
        trial = study.ask()
        config = TrialConfig(zoom=trial.suggest_categorical("zoom", [0.3]), image_size=64)
        trial.set_user_attr("run", RunSpec(config=config, seed=number).model_dump(mode="json"))
        history = a_history(0.8, 0.9 + number / 10_000)
        for epoch in history:
            trial.report(epoch.evaluation("auc"), epoch.epoch)
        time.sleep(seconds)
        HISTORY.extend(trial, history)
        pruned = number % 3 == 2
        study.tell(trial, None if pruned else 0.9, TrialState.PRUNED if pruned else TrialState.COMPLETE)
    return study


def assert_all_there(study: optuna.Study, n_trials: int) -> None:
    trials = study.get_trials(deepcopy=False)
    assert [trial.number for trial in trials] == list(range(n_trials))
    assert all(trial.state.is_finished() and HISTORY.count(trial) == 2 for trial in trials)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_report_equals_that_of_sqlite_and_the_study_goes_on(postgres: PostgresServer, store: Store) -> None:
    url = postgres.new_database("equal")
    fake_study(Store(url, store.results), 3)
    study = fake_study(Store(url, store.results), 6)
    fake_study(store, 6)
    there = Store(url, store.results, must_exist=True)
    assert there.names() == ["fake"]
    assert study_summary(there.record("fake")) == study_summary(store.record("fake"))
    assert there.record("fake").trials == tuple(trial_record(trial) for trial in study.get_trials(deepcopy=False))
    assert_all_there(study, 6)


def test_commands_work_on_postgres_as_a_user_types_them(postgres: PostgresServer, terminal: Terminal) -> None:
    url = postgres.new_database("typed")
    fake_study(Store(url, terminal.folder), 3)
    summary = terminal.json("report", "--name", "fake", "--storage", url)
    assert [trial["number"] for trial in summary["trials"]] == [0, 1, 2]
    wrong = url.replace("searcher:", "searcher:not", 1)
    _, err = terminal.run("report", "--name", "fake", "--storage", wrong, code=1)
    assert err.count("\n") == 1
    assert "password authentication failed" in err
    assert "notp" not in err
    assert "Traceback" not in err
    _, err = terminal.run("report", "--storage", url.replace("/typed", "/none"), code=1)
    assert 'database "none" does not exist' in err


def test_wrong_password_is_told_in_one_line_at_once_and_kept_secret(postgres: PostgresServer, tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(StoreError, match="the storage cannot be used .*password authentication failed") as error:
        Store(f"postgresql://searcher:hush@127.0.0.1:{postgres.port}/postgres", tmp_path)
    assert time.monotonic() - begin < 10
    assert "\n" not in str(error.value)
    assert "hush" not in str(error.value)


def test_user_who_may_make_no_tables_is_told_so(postgres: PostgresServer, tmp_path: Path) -> None:
    postgres.query("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    postgres.new_database("guarded")
    with pytest.raises(StoreError, match=r"not a usable Optuna storage \(permission denied for schema public\)$"):
        Store(f"postgresql://guest:guest@127.0.0.1:{postgres.port}/guarded", tmp_path)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_study_survives_a_database_that_is_stopped_and_started(
    postgres: PostgresServer, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(postgres.new_database(f"restarted_{mode}"), tmp_path, patience=60)
    restarts: list[float] = []

    def restart_twice() -> None:
        for _ in range(2):
            time.sleep(0.7)
            postgres.stop("fast" if mode == "fast" else "immediate")
            time.sleep(0.3)
            postgres.start()
            restarts.append(time.monotonic())

    thread = threading.Thread(target=restart_twice)
    thread.start()
    n_trials = 0
    while thread.is_alive() or n_trials < 20:
        n_trials += 10
        study = fake_study(store, n_trials, seconds=0.005)
    thread.join()
    assert len(restarts) == 2
    assert_all_there(study, n_trials)
    assert "Caught an error from sqlalchemy" not in caplog.text


def test_database_that_is_gone_for_good_is_told_in_one_line(postgres: PostgresServer, tmp_path: Path) -> None:
    store = Store(postgres.new_database("gone"), tmp_path, patience=1.5)
    study = fake_study(store, 1)
    postgres.stop()
    try:
        for call in (study.ask, store.names, lambda: store.record("fake")):
            begin = time.monotonic()
            with pytest.raises(StoreError, match="cannot be used .*the same command goes on when it can") as error:
                call()
            assert 1.4 < time.monotonic() - begin < 10
            assert "\n" not in str(error.value)
            assert "p@ss" not in str(error.value)
            assert "p%40ss" not in str(error.value)
    finally:
        postgres.start()
    fake_study(store, 3)


def test_trial_whose_making_was_not_answered_is_made_once(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(postgres.new_database("once"), tmp_path)
    study = fake_study(store, 1)
    original = RDBStorage._create_new_trial
    losses = ["before", "after"] * 2  # the commit, of two attempts at each of two trials

    def create(self: RDBStorage, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if losses.pop(0) == "after":
            original(self, study_id, template_trial)
        raise ConnectionLost("the server is gone")

    monkeypatch.setattr(RDBStorage, "_create_new_trial", create)
    assert study.ask().number == 1
    study.enqueue_trial({"zoom": 0.3})
    assert losses == []
    monkeypatch.undo()
    trials = study.get_trials(deepcopy=False)
    assert [trial.state for trial in trials[1:]] == [TrialState.RUNNING, TrialState.WAITING]
    assert len({trial.system_attrs[MARK] for trial in trials}) == 3


def _join(url: str, results: Path, n_trials: int, ended: "multiprocessing.Queue[int]") -> None:
    """Open the store, which may be new, and train; from several threads, as with a heartbeat."""
    store = Store(url, results)
    study = store.open_study("fake", "search", "accuracy", SPEC, a_description())

    def read() -> None:
        for _ in range(3 * n_trials):
            store.names()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(n_trials):
        trial = study.ask()
        study.tell(trial, 0.5)
        ended.put(trial.number)
    for thread in threads:
        thread.join()


def test_processes_that_begin_at_once_share_a_new_database_with_few_connections(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url, context = postgres.new_database("shared"), multiprocessing.get_context("spawn")
    ended: multiprocessing.Queue[int] = context.Queue()
    processes = [context.Process(target=_join, args=(url, tmp_path, 8, ended)) for _ in range(3)]
    for process in processes:
        process.start()
    counts = [0]
    numbers: list[int] = []
    while any(process.is_alive() for process in processes) or len(numbers) < 24:
        counts.append(postgres.query(f"{CONNECTIONS} AND datname = 'shared'")[0][0])
        try:
            while True:
                numbers.append(ended.get(timeout=0.05))
        except Empty:
            if not any(process.is_alive() for process in processes) and len(numbers) < 24:
                break
    assert [process.exitcode for process in processes] == [0] * 3
    assert sorted(numbers) == list(range(24))
    assert 2 <= max(counts) <= MAX_CONNECTIONS * len(processes)


@pytest.mark.slow
def test_training_outlives_a_restart_of_the_database(
    postgres: PostgresServer, terminal: Terminal, phantoms: Path
) -> None:
    url = postgres.new_database("trained")
    tiny = TINY_STUDY.replace("[fixed]", "[fixed]\nepochs = 2").partition("epochs = {")[0]
    (terminal.folder / "tiny.toml").write_text(tiny)
    process = terminal.start(
        *("study", "tiny.toml", "--trials", "2", "--storage", url, "--data", str(phantoms), "--json")
    )
    begun = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'trained'"
    while postgres.query(begun)[0][0] < 2 and process.poll() is None:  # the command, then its training
        time.sleep(0.1)
    postgres.stop("immediate")
    time.sleep(1)
    postgres.start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [trial["state"] for trial in json.loads(out)["trials"]] == ["complete"] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("postgres")  # where there is none, none can be measured
def test_measurement_of_storages_counts_nothing_lost_nor_twice() -> None:
    app = typer.Typer()
    app.command()(storages)
    options = ["--workers", "2", "--trials", "4", "--storage", "sqlite,postgresql", "--json"]
    result = CliRunner().invoke(app, options, catch_exceptions=False)
    rows = json.loads(result.stdout)["measurements"]
    assert [(row["storage"], row["errors"], row["lost"], row["repeated"]) for row in rows] == [
        ("sqlite", 0, 0, 0),
        ("postgresql", 0, 0, 0),
    ]
