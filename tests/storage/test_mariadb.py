"""The store in a real MariaDB server, which speaks MySQL's protocol."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.errors import StoreError
from pneumosearch.report.summary import study_summary
from pneumosearch.storage.locks import study_lock
from pneumosearch.storage.retry import MARK, ConnectionLost
from pneumosearch.storage.store import Store, trial_record
from tests.storage.test_postgres import assert_all_there, fake_study
from tests.support.mariadb import MariadbServer, NoMariadb, mariadb_server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariadbServer]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(mariadb_server())
        except NoMariadb as error:
            pytest.skip(str(error))
        yield server


def test_report_equals_that_of_sqlite_and_the_study_goes_on(mariadb: MariadbServer, store: Store) -> None:
    url = mariadb.new_database("equal")
    fake_study(Store(url, store.results), 3)
    study = fake_study(Store(url, store.results), 6)
    fake_study(store, 6)
    there = Store(url, store.results, must_exist=True)
    assert there.names() == ["fake"]
    assert study_summary(there.record("fake")) == study_summary(store.record("fake"))
    assert there.record("fake").trials == tuple(trial_record(trial) for trial in study.get_trials(deepcopy=False))
    assert_all_there(study, 6)


def test_wrong_password_and_database_are_told_in_one_line_at_once(mariadb: MariadbServer, tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(StoreError, match="the storage cannot be used .*Access denied") as error:
        Store(f"mysql://searcher:hush@127.0.0.1:{mariadb.port}/studies", tmp_path)
    with pytest.raises(StoreError, match="the storage cannot be used .*Unknown database 'none'"):
        Store(mariadb.url("none"), tmp_path)
    assert time.monotonic() - begin < 10
    assert "\n" not in str(error.value)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_study_survives_a_database_that_is_stopped_and_started(
    mariadb: MariadbServer, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(mariadb.new_database(f"restarted_{mode}"), tmp_path, patience=60)
    failures: list[BaseException] = []

    def restart_twice() -> None:
        try:
            for _ in range(2):
                time.sleep(0.7)
                mariadb.stop("fast" if mode == "fast" else "immediate")
                time.sleep(0.3)
                mariadb.start()
        except BaseException as error:  # told by the test's own thread
            failures.append(error)
            raise

    thread = threading.Thread(target=restart_twice)
    thread.start()
    n_trials = 0
    while thread.is_alive() or n_trials < 20:
        n_trials += 10
        study = fake_study(store, n_trials, seconds=0.005)
    thread.join()
    assert not failures
    assert_all_there(study, n_trials)
    assert "Caught an error from sqlalchemy" not in caplog.text


def test_trial_whose_making_was_not_answered_is_made_once(
    mariadb: MariadbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fake_study(Store(mariadb.new_database("once"), tmp_path), 1)
    original = RDBStorage._create_new_trial
    losses = ["before", "after"]

    def create(self: RDBStorage, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if losses.pop(0) == "after":
            original(self, study_id, template_trial)
        raise ConnectionLost("the server is gone")

    monkeypatch.setattr(RDBStorage, "_create_new_trial", create)
    assert study.ask().number == 1
    monkeypatch.undo()
    trials = study.get_trials(deepcopy=False)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert MARK in trials[1].system_attrs


def test_lock_of_a_study_is_held_by_one_at_a_time(mariadb: MariadbServer, tmp_path: Path) -> None:
    store = Store(mariadb.new_database("locked"), tmp_path)
    held, order = threading.Event(), list[str]()

    def second() -> None:
        held.wait(10)
        with study_lock(store.storage, "a", 30):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with study_lock(store.storage, "a"), study_lock(store.storage, "b"):
        held.set()
        time.sleep(0.5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_optuna_reads_what_we_wrote(mariadb: MariadbServer, tmp_path: Path) -> None:
    url = mariadb.new_database("plain")
    fake_study(Store(url, tmp_path), 2)
    plain = optuna.load_study(study_name="fake", storage=url.replace("mysql:", "mysql+pymysql:", 1))
    assert [trial.value for trial in plain.trials] == [0.9, 0.9]


def test_row_that_another_process_changed_first_is_written_again(mariadb: MariadbServer, tmp_path: Path) -> None:
    # MariaDB refuses such a write (error 1020) since 11.6, where this setting became the default.
    try:
        mariadb.execute("SET GLOBAL innodb_snapshot_isolation = ON")
    except Exception as error:  # noqa: BLE001  whatever the driver raises
        pytest.skip(f"this MariaDB has no snapshot isolation: {error}")
    url = mariadb.new_database("snapshot")
    study = optuna.create_study(storage=Store(url, tmp_path).storage, study_name="a")

    def write(number: int) -> None:
        same = optuna.load_study(storage=Store(url, tmp_path).storage, study_name="a")
        for value in range(30):
            same.set_user_attr("last", [number, value])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    mariadb.execute("SET GLOBAL innodb_snapshot_isolation = OFF")
    assert study.user_attrs["last"][1] == 29
